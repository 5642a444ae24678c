"""The events of a sweep, or of one training: what the live table, the trackers, the plan's record and a page read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raytune_ft.training.outcome import Outcome
from raytune_ft.training.progress import TrialProgress


@dataclass(frozen=True)
class Started:
    """A trial starts, goes on under a new driver, or goes on with settings that it copied.

    Attributes:
        trial: Its name.
        parameters: Key path -> value, of what is searched.
    """

    trial: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Progressed:
    """A running trial was looked at, which happens every few seconds.

    Attributes:
        trial: Its name.
        state: Where it is; None before its workers have said anything.
    """

    trial: str
    state: TrialProgress | None


@dataclass(frozen=True)
class Reported:
    """A trial reported at a rung, or at another step at which it is evaluated.

    Attributes:
        trial: Its name.
        report: The line of its `metrics.jsonl`, in a sweep with `rung`, how many of its rungs
            are reached, where that is one at least.
    """

    trial: str
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """A trial ended; its `outcome.json` is written.

    Attributes:
        trial: Its name.
        outcome: How it ended.
    """

    trial: str
    outcome: Outcome


@dataclass(frozen=True)
class Closed:
    """The driver trains nothing more: all trials have ended, the budget is used up, or it was stopped.

    A driver that is killed, or stopped by a second Ctrl-C, tells nothing any more.

    Attributes:
        reason: Why nothing more is trained, for a person.
    """

    reason: str


Event = Started | Progressed | Reported | Ended | Closed
Listener = Callable[[Event], None]
"""Takes each event in its order, one at a time; an error of it ends the sweep, at `Progressed` with the next event."""
