"""What a lane is told, and what it tells: the only words between the training loop and whoever hands out trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from raytune_ft.training.outcome import Outcome
from raytune_ft.training.spec import TrialSpec


@dataclass(frozen=True)
class Start:
    """Train `spec`, from its last whole checkpoint where it has one.

    Attributes:
        spec: The trial.
        copy_from: A checkpoint directory of another trial, whose weights, optimizer and place in the data are taken
            over (population-based training's exploit); only where the trial has no checkpoint of its own.
    """

    spec: TrialSpec
    copy_from: Path | None = None


@dataclass(frozen=True)
class GoOn:
    """The scheduler lets the trial train past the step that it reported."""

    trial: str


@dataclass(frozen=True)
class Drop:
    """Stop the trial where it is: its last checkpoint stays, so a later `Start` on any lane goes on from there."""

    trial: str


@dataclass(frozen=True)
class Quit:
    """No trial will come any more."""


Order = Start | GoOn | Drop | Quit


class LaneOrders(Protocol):
    """A lane's side of the dispatcher; only the first rank of a lane talks to it."""

    def orders(self, free: int, wait_s: float) -> list[Order]:
        """What came since the last call, in order; waits up to `wait_s` for the first.

        Args:
            free: How many more trials the lane could train at once.
            wait_s: 0 returns at once.
        """
        ...

    def in_touch(self) -> bool:
        """Whether its trials are still the lane's own; after False, `orders` says Quit, and nothing may be written."""
        ...

    def report(self, trial: str, report: dict[str, Any]) -> None:
        """A line of `metrics.jsonl`. The trial then waits for `GoOn` or `Drop`."""
        ...

    def ended(self, trial: str, outcome: Outcome) -> None:
        """The trial ended, and `outcome.json` says so; its last report, if any, was given before."""
        ...


RunLane = Callable[..., None]
"""A lane's training loop, as it is sent to the workers: `run_lane(experiment, orders, *, report_ready)` of
`training.lane.loop`, or a test's."""
