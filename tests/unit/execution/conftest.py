"""A dispatcher's scheduler, and lanes that talk to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.execution.lanes.lane_scheduler import LaneScheduler
from raytune_ft.paths import RunDirectory
from raytune_ft.training.lane.orders import Order, Start
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.spec import TrialSpec

EXPERIMENT = Experiment.model_validate({"name": "e", "base_model": "b", "data": {"train": "t"}})
DONE = Outcome(OutcomeKind.completed, "ran all 30 steps", 30, 0.3, 9.0)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Lane:
    """A lane's side of the scheduler."""

    def __init__(self, scheduler: LaneScheduler, number: int, room: int = 1) -> None:
        self.scheduler, self.number, self.starts = scheduler, number, 0
        self.session = scheduler.hello(number)
        scheduler.ready(number, self.session)
        self.free(room)

    def free(self, room: int) -> None:
        self.scheduler.credit(self.number, self.session, self.starts + room)

    def hears(self) -> list[Order]:
        self.scheduler.heard(self.number, self.session)
        orders = self.scheduler.orders(self.number, self.session)
        self.starts += sum(isinstance(order, Start) for order in orders)
        return orders

    def starts_now(self) -> list[str]:
        return [order.spec.trial_id for order in self.hears() if isinstance(order, Start)]

    def reports(self, trial: str, step: int = 10, **more: Any) -> None:
        self.scheduler.report(
            self.number, self.session, trial, {"step": step, "eval_loss": 0.5, "seconds": 2.0, **more}
        )

    def ends(self, trial: str, room: int = 1) -> None:
        self.scheduler.ended(self.number, self.session, trial, DONE)
        self.free(room)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock):
    def make_book(lanes: int = 1, max_failures: int = 2, outage_timeout_s: float = 3600.0) -> LaneScheduler:
        return LaneScheduler(lanes, max_failures, outage_timeout_s, clock)

    return make_book


@pytest.fixture
def attach():
    """`attach(scheduler, number)` is a lane that has started."""
    return Lane


@pytest.fixture
def start():
    """`start(trial)`: the order."""

    def of(trial: str) -> Start:
        return Start(TrialSpec.of(trial, {}, EXPERIMENT, RunDirectory(Path("runs/e"))))

    return of


@pytest.fixture
def submit(start):
    """`submit(scheduler, *trials)`: each by a proxy of its own."""

    def to(scheduler: LaneScheduler, *trials: str) -> None:
        for trial in trials:
            scheduler.submit(start(trial), f"proxy of {trial}")

    return to
