"""What the lane scheduler notes of a trial and of a lane, and what a trial's owner hears."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from raytune_ft.metrics.report import value_in
from raytune_ft.training.lane.orders import Drop, GoOn, Order, Quit, Start
from raytune_ft.training.outcome import Outcome, OutcomeKind


@dataclass(frozen=True)
class TrialReport:
    """A line of the trial's `metrics.jsonl`; the trial waits until somebody decides."""

    metrics: dict[str, Any]


@dataclass(frozen=True)
class TrialEnded:
    """The trial's last event."""

    outcome: Outcome


@dataclass(frozen=True)
class TrialGone:
    """Nothing will come of this trial any more: it was dropped, or the search is over."""


Message = TrialReport | TrialEnded | TrialGone


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
        cause: The kind of the death.
    """

    reason: str
    kind: OutcomeKind = OutcomeKind.failed
    cause: Cause = Cause.died


@dataclass(frozen=True)
class LanesNow:
    """How a study's lanes are.

    Attributes:
        given_up: Why no lane will be there any more, and trials wait for nothing; None while they don't.
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
        last: The last report that it made.
    """

    start: Start
    owner: str
    decided: int = 0
    lane: int | None = None
    events: deque[TrialReport | TrialEnded] = field(default_factory=deque)
    restarts: int = 0
    losses: int = 0
    suspect: bool = False
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing follows the events that are there."""
        return bool(self.events) and isinstance(self.events[-1], TrialEnded)

    def end(self, kind: OutcomeKind, reason: str) -> None:
        """Ends the trial without a word from a lane, with the value it last reported."""
        last, leading = self.last, self.start.spec.experiment.goals[0].name
        outcome = Outcome(kind, reason, last.get("step", 0), value_in(last, leading), last.get("seconds", 0.0))
        self.events.append(TrialEnded(outcome))


class LaneState(IntEnum):
    """How far a lane's worker group is; from `loading` to `useful` each follows from the one before."""

    absent = 0
    """It has no group: none was started yet, or the last one fell."""
    left = 1
    """Its group's loop has ended, and its processes have not."""
    silent = 2
    """Its group was not heard for long, so its trials were given away."""
    loading = 3
    """The group said hello, and loads the base."""
    ready = 4
    """It has loaded the base."""
    useful = 5
    """A trial got on there, or it has been ready for some minutes."""


@dataclass
class LaneEntry:
    """One lane.

    Attributes:
        session: Number of its worker group, from 1.
        state: How far that group is.
        reached: Its last state of `loading`, `ready` and `useful`, to which a silent group returns when it is heard.
        ready_s: When it had loaded the base.
        failed_starts: Groups in a row that fell before they were ready.
        useless_starts: Groups since the last useful one that were ready, and fell without having been useful.
        errors: The last of the failed starts that ended with the same exception.
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
    state: LaneState = LaneState.absent
    reached: LaneState = LaneState.absent
    ready_s: float = 0.0
    failed_starts: int = 0
    useless_starts: int = 0
    errors: int = 0
    death: Death | None = None
    again_s: float = 0.0
    credit: int = 0
    handed: int = 0
    most: int = 0
    heard_s: float = 0.0
    trials: list[str] = field(default_factory=list)
    outbox: list[Order] = field(default_factory=list)

    def reach(self, state: LaneState) -> None:
        """Its group has come so far, and is heard."""
        self.state = self.reached = state

    @property
    def here(self) -> bool:
        """Whether a group said hello, and has not fallen since."""
        return self.state is not LaneState.absent

    @property
    def silent(self) -> bool:
        """Whether its group was not heard for long."""
        return self.state is LaneState.silent

    @property
    def listens(self) -> bool:
        """Whether it could be given a trial now, to train as soon as it has loaded the base."""
        return self.state >= LaneState.loading

    @property
    def up(self) -> bool:
        """Whether it could train now."""
        return self.state >= LaneState.ready

    @property
    def starts_without_use(self) -> int:
        """Starts in a row that led to nothing; the first fall after the lane was ready may happen to any."""
        return self.failed_starts + max(0, self.useless_starts - 1)

    @property
    def lost(self) -> bool:
        """Whether its starts led to nothing, or it fell silent, and it can't be counted on now."""
        return self.silent or (self.starts_without_use > 0 and self.reached < LaneState.ready)

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
