"""What the book notes of a trial and of a lane, and what a trial's owner hears."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from raytune_ft.training.lane.orders import Drop, GoOn, Order, Quit, Start
from raytune_ft.training.outcome import Outcome, OutcomeKind


@dataclass(frozen=True)
class Report:
    """A line of the trial's `metrics.jsonl`; the trial waits until somebody decides."""

    metrics: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """The trial's last event."""

    outcome: Outcome


@dataclass(frozen=True)
class Gone:
    """Nothing will come of this trial any more: it was dropped, or the search is over."""


Event = Report | Ended | Gone


class Cause(StrEnum):
    """Of what kind the end of a lane's workers was; of several workers' ends, the first in this order tells."""

    preempted = "preempted"
    """Their node was announced to be taken away."""
    lost = "lost"
    """A node went or does not answer, or there was no room for them."""
    died = "died"
    """A worker's process died by itself or was killed."""
    raised = "raised"
    """A worker raised an exception, or memory ran out."""


@dataclass(frozen=True)
class Death:
    """Why a lane's workers are no more.

    Attributes:
        reason: One clause for a person.
        kind: What a trial ends as that they died of: `out_of_memory` or `failed`.
        cause: Of what kind it was.
    """

    reason: str
    kind: OutcomeKind = OutcomeKind.failed
    cause: Cause = Cause.died


@dataclass(frozen=True)
class LanesNow:
    """How a study's lanes are.

    Attributes:
        given_up: Why no lane will be there any more, so that trials wait in vain; None while they don't.
        away: Numbers of the lanes that hold no workers, as they are lost.
    """

    given_up: str | None = None
    away: frozenset[int] = frozenset()


@dataclass
class TrialEntry:
    """One trial.

    Attributes:
        start: What a lane is told of it.
        owner: Who waits for its events.
        lane: Which lane has it, or None while it waits in the queue, for a decision, or has ended.
        decided: The step up to which the scheduler has let it go on.
        events: What its owner has not dealt with yet, the oldest first.
        restarts: Deaths of a lane's workers while they trained it, those left out that it has nothing to do with.
        losses: Lanes that were lost with it since its last report.
        suspect: A lane died of it or of a neighbour, and it has not reported since.
        last: Its last report.
    """

    start: Start
    owner: str
    decided: int = 0
    lane: int | None = None
    events: deque[Report | Ended] = field(default_factory=deque)
    restarts: int = 0
    losses: int = 0
    suspect: bool = False
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing follows the events that are there."""
        return bool(self.events) and isinstance(self.events[-1], Ended)

    def end(self, kind: OutcomeKind, reason: str) -> None:
        """Ends the trial without a word from a lane, with the value it last reported."""
        last = self.last
        outcome = Outcome(kind, reason, last.get("step", 0), last.get("eval_loss"), last.get("seconds", 0.0))
        self.events.append(Ended(outcome))


@dataclass
class LaneEntry:
    """One lane.

    Attributes:
        session: Number of its worker group, from 1.
        here: That group said hello, and has not fallen since.
        ready: It has loaded the base.
        ready_s: When it had.
        proven: It is of use: a trial got on there, or it has been ready for some minutes.
        silent: It was not heard for long, so its trials were given away.
        left: Its loop has ended, as it was told.
        failures: Groups in a row that fell before they were ready.
        slips: Groups since the last one of use that were ready, and fell without having been of use.
        errors: The last of these that ended with the same exception.
        death: Why the last group fell.
        again_s: When the next one is started.
        credit: Trials that it will take in this session, all in all.
        handed: Trials that it was given in this session.
        most: Trials that it ever wanted at once, 0 until it said so.
        heard_s: When it was last heard.
        trials: Which it has.
        outbox: What it has yet to hear.
    """

    session: int = 0
    here: bool = False
    ready: bool = False
    ready_s: float = 0.0
    proven: bool = False
    silent: bool = False
    left: bool = False
    failures: int = 0
    slips: int = 0
    errors: int = 0
    death: Death | None = None
    again_s: float = 0.0
    credit: int = 0
    handed: int = 0
    most: int = 0
    heard_s: float = 0.0
    trials: list[str] = field(default_factory=list)
    outbox: list[Order] = field(default_factory=list)

    @property
    def up(self) -> bool:
        """Whether it could train now."""
        return self.ready and not self.silent

    @property
    def in_vain(self) -> int:
        """Starts in a row that led to nothing; the first fall after the lane was ready may happen to any."""
        return self.failures + max(0, self.slips - 1)

    @property
    def lost(self) -> bool:
        """Whether it was started in vain, or fell silent, and can't be counted on now."""
        return self.silent or (self.in_vain > 0 and not self.ready)

    def take_back(self, trial: str) -> bool:
        """Removes what it has yet to hear of the trial; returns whether that was its start."""
        about = [order for order in self.outbox if _trial_of(order) == trial]
        self.outbox = [order for order in self.outbox if _trial_of(order) != trial]
        return any(isinstance(order, Start) for order in about)


def _trial_of(order: Order) -> str | None:
    match order:
        case Start(spec=spec):
            return spec.trial_id
        case GoOn(trial=trial) | Drop(trial=trial):
            return trial
        case Quit():
            return None
