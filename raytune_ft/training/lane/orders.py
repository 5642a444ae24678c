"""The messages between a lane's training loop and the scheduler that assigns trials to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from raytune_ft.training.outcome import Outcome
from raytune_ft.training.spec import TrialSpec


@dataclass(frozen=True)
class Start:
    """Tells the lane to train `spec` from its last complete checkpoint, if it has one.

    Attributes:
        spec: The trial.
        copy_from: Checkpoint directory of another trial, whose weights, optimizer state and position in the data are
            copied (exploit of population-based training); used only if the trial has no checkpoint of its own.
    """

    spec: TrialSpec
    copy_from: Path | None = None


@dataclass(frozen=True)
class GoOn:
    """Tells the lane that the trial may train past the step that it reported."""

    trial: str


@dataclass(frozen=True)
class Drop:
    """Tells the lane to stop the trial; its last checkpoint stays, so that a later `Start` on any lane resumes it."""

    trial: str


@dataclass(frozen=True)
class Quit:
    """Tells the lane that no more trials will come."""


Order = Start | GoOn | Drop | Quit


class LaneOrders(Protocol):
    """A lane's interface to the scheduler; only the lane's first rank uses it."""

    def orders(self, free: int, wait_s: float) -> list[Order]:
        """Returns the orders since the last call, in order.

        Args:
            free: Number of further trials that the lane could train at once.
            wait_s: Seconds to wait for the first order; 0 returns at once.
        """
        ...

    def in_touch(self) -> bool:
        """Tells whether the trials are still this lane's; if not, it must not write, and `orders` returns `Quit`."""
        ...

    def report(self, trial: str, report: dict[str, Any]) -> None:
        """Sends a trial's report, a line of `metrics.jsonl`; the trial then waits for `GoOn` or `Drop`."""
        ...

    def ended(self, trial: str, outcome: Outcome) -> None:
        """Tells that the trial ended, as `outcome.json` says; its last report, if any, was sent before."""
        ...


RunLane = Callable[..., None]
"""A lane's training loop, as it is sent to the workers: `run_lane(experiment, orders, *, report_ready)` of
`training.lane.loop`, or a test's."""
