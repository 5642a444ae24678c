"""Limits how many trials are started: each has a process of its own, and on a CPU these take cores from the lanes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Lane
from raytune_ft.search.trials.asked import Asked

PROXY_CORE_S = 4.0
"""Core-seconds allowed for the start of one proxy: many at once would take the cores from the lanes."""
PACK = 4
"""How many trials a lane is assumed to want until it says so."""
ASKED_EVERY_S = 0.5


class LaneDemand:
    """Returns, when called, how many trials may run: as many as the lanes want at once, started one after another.

    Args:
        dispatcher: Handle of the lanes' dispatcher, which knows what they want.
        lanes: How many lanes there are.
        experiment: The experiment, whose runner says how many trials a lane packs.
    """

    def __init__(self, dispatcher: Any, lanes: int, experiment: Experiment) -> None:
        packed = experiment.runner.packed if isinstance(experiment.runner, Lane) else "auto"
        self._unheard = packed if isinstance(packed, int) else PACK
        self._wanted = lanes * self._unheard
        self._paced = one_after_another(lanes)
        self._asked = Asked(lambda: dispatcher.room.remote(self._unheard), ASKED_EVERY_S)

    def __call__(self) -> int:
        """Returns how many trials may run now. It never waits: it uses what the lanes said some moments ago."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):  # without a dispatcher the search ends for that reason
            self._wanted = next(iter(self._asked.news()), self._wanted)
        return min(self._paced(), self._wanted)


def one_after_another(
    at_once: int, cores: int | None = None, clock: Callable[[], float] = time.monotonic
) -> Callable[[], int]:
    """Returns a function that says how many proxies may have started by now: `at_once`, then ever more over time.

    Args:
        at_once: How many may start at once, as lanes would wait for them.
        cores: Number of the node's cores; by default this machine's.
        clock: A monotonic clock, in seconds.
    """
    began, rate = clock(), (cores or os.cpu_count() or 1) / PROXY_CORE_S
    return lambda: at_once + int((clock() - began) * rate)
