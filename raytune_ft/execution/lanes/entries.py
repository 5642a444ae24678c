"""The lane scheduler's records of trials and lanes, and the messages that a trial's owner gets."""

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
    """Carries a report, a line of the trial's `metrics.jsonl`; the trial waits until it may go on or is dropped."""

    metrics: dict[str, Any]


@dataclass(frozen=True)
class TrialEnded:
    """Says how the trial ended; no message follows."""

    outcome: Outcome


@dataclass(frozen=True)
class TrialGone:
    """Says that no message about this trial will come any more: it was dropped, or the search is over."""


Message = TrialReport | TrialEnded | TrialGone


class Cause(StrEnum):
    """Why a lane's workers ended; where they ended for several causes, the first one in this order counts."""

    preempted = "preempted"
    """It was announced that their node would be taken away."""
    lost = "lost"
    """A node is gone or does not answer, or the cluster had no room for the workers."""
    died = "died"
    """A worker's process died by itself or was killed."""
    raised = "raised"
    """A worker raised an exception, or ran out of memory."""


@dataclass(frozen=True)
class Death:
    """Why a lane's workers ended.

    Attributes:
        reason: Why, as one clause for a person.
        kind: The outcome of a trial that caused it: `out_of_memory` or `failed`.
        cause: The kind of the death.
    """

    reason: str
    kind: OutcomeKind = OutcomeKind.failed
    cause: Cause = Cause.died


@dataclass(frozen=True)
class LanesNow:
    """The state of a study's lanes now.

    Attributes:
        given_up: Why no lane will start any more, so that trials wait in vain; None while lanes run or may start.
        away: Numbers of the lanes that are lost and hold no workers.
    """

    given_up: str | None = None
    away: frozenset[int] = frozenset()


@dataclass
class TrialEntry:
    """The lane scheduler's record of one trial.

    Attributes:
        start: The order that starts it on a lane.
        owner: Id of the one that waits for its messages.
        lane: Number of the lane that has it. None while it waits in the queue, when it has ended, and while it waits
            for a decision after its lane's workers ended.
        decided: The step of the last report after which it was let go on.
        events: Messages that its owner has not dealt with yet, the oldest first.
        restarts: How often a lane's workers died while they trained it, but for deaths that it can't have caused.
        losses: How many lanes were lost while they trained it, since its last report.
        suspect: Whether it, or a trial packed beside it, may have killed a lane, and it has not reported since.
        last: Its last report.
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
        """Whether its last message is among `events` already."""
        return bool(self.events) and isinstance(self.events[-1], TrialEnded)

    def end(self, kind: OutcomeKind, reason: str) -> None:
        """Ends the trial at its last reported step and value, without a lane's message."""
        last, leading = self.last, self.start.spec.experiment.goals[0].name
        outcome = Outcome(kind, reason, last.get("step", 0), value_in(last, leading), last.get("seconds", 0.0))
        self.events.append(TrialEnded(outcome))


class LaneState(IntEnum):
    """How far a lane's worker group has come; `loading`, `ready` and `useful` follow one another."""

    absent = 0
    """The lane has no group: none has said hello yet, or the last one ended."""
    left = 1
    """The group's training loop has ended, but its processes have not."""
    silent = 2
    """The group was not heard from for too long, so its trials were taken from it."""
    loading = 3
    """The group has said hello, and loads the base model."""
    ready = 4
    """The group has loaded the base model."""
    useful = 5
    """A trial reported or ended on the group, or it has been ready for some minutes."""


@dataclass
class LaneEntry:
    """The lane scheduler's record of one lane. Times are seconds of the scheduler's clock.

    Attributes:
        session: Number of its worker group, from 1.
        state: How far that group has come.
        reached: The group's last state of `loading`, `ready` and `useful`, to which a silent group returns when it is
            heard from again.
        ready_s: When the group had loaded the base model.
        failed_starts: How many groups in a row ended before they were ready.
        useless_starts: How many groups since the last useful one became ready, and ended without becoming useful.
        errors: How many of the last failed starts ended with the same exception.
        death: Why the last group ended.
        again_s: When the next group is started.
        credit: How many trials the lane takes in this session, those included that it was given already.
        handed: How many trials it was given in this session.
        most: The most trials that it ever wanted at once; 0 until it said so.
        heard_s: When it was last heard from.
        trials: Names of the trials that it has.
        outbox: Orders that it has not fetched yet.
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
        """Notes that the group has come to `state`."""
        self.state = self.reached = state

    @property
    def here(self) -> bool:
        """Whether a group has said hello, and has not ended since."""
        return self.state is not LaneState.absent

    @property
    def silent(self) -> bool:
        """Whether its group was not heard from for too long."""
        return self.state is LaneState.silent

    @property
    def listens(self) -> bool:
        """Whether it may be given a trial now; a group that still loads the base model trains it once it is ready."""
        return self.state >= LaneState.loading

    @property
    def up(self) -> bool:
        """Whether it could train a trial now."""
        return self.state >= LaneState.ready

    @property
    def starts_without_use(self) -> int:
        """Number of starts in a row that led to nothing; the first end after the lane was ready does not count."""
        return self.failed_starts + max(0, self.useless_starts - 1)

    @property
    def lost(self) -> bool:
        """Whether the lane can't be counted on now, as its starts led to nothing or it fell silent."""
        return self.silent or (self.starts_without_use > 0 and self.reached < LaneState.ready)

    def take_back(self, trial: str) -> bool:
        """Removes the trial's orders from the outbox; returns whether its `Start` was among them."""
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
