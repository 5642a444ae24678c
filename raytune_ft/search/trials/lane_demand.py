"""How many trials are of use now: each has a process of its own, and on a CPU these take the cores from the lanes."""

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
"""Core-seconds that the start of a proxy gets: many at once would take the cores from the lane."""
PACK = 4
"""Trials that a lane is taken to want before it says so."""
ASKED_EVERY_S = 0.5


class LaneDemand:
    """As many trials as the lanes want at once, started one after another.

    Args:
        dispatcher: Handle of the lanes' dispatcher, which knows what they want.
        lanes: How many there are.
        experiment: With the runner's setting of how many trials a lane packs.
    """

    def __init__(self, dispatcher: Any, lanes: int, experiment: Experiment) -> None:
        packed = experiment.runner.packed if isinstance(experiment.runner, Lane) else "auto"
        self._unheard = packed if isinstance(packed, int) else PACK
        self._wanted = lanes * self._unheard
        self._paced = one_after_another(lanes)
        self._asked = Asked(lambda: dispatcher.room.remote(self._unheard), ASKED_EVERY_S)

    def __call__(self) -> int:
        """Never waits: what the lanes want is what they said some moments ago."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):  # without a dispatcher the search ends for that reason
            self._wanted = next(iter(self._asked.news()), self._wanted)
        return min(self._paced(), self._wanted)


def one_after_another(
    at_once: int, cores: int | None = None, clock: Callable[[], float] = time.monotonic
) -> Callable[[], int]:
    """How many proxies may have been started: `at_once`, and then one more each time the node can bear it.

    Args:
        at_once: The first ones, for lanes that would wait for them.
        cores: Of the node; by default this one's.
        clock: Seconds that only grow.
    """
    began, rate = clock(), (cores or os.cpu_count() or 1) / PROXY_CORE_S
    return lambda: at_once + int((clock() - began) * rate)
