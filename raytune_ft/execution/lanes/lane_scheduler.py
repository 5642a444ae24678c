"""Who trains what: the trials, the lanes, and what each has yet to hear. Pure, so that every turn can be tested."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from raytune_ft.execution.lanes.assignment import lane_for, one_still_starts
from raytune_ft.execution.lanes.entries import (
    Cause,
    Death,
    LaneEntry,
    LanesNow,
    LaneState,
    Message,
    TrialEnded,
    TrialEntry,
    TrialGone,
    TrialReport,
)
from raytune_ft.execution.lanes.recovery.charges import charged, goes_on
from raytune_ft.execution.lanes.recovery.lost_lanes import LostLanes
from raytune_ft.training.lane.orders import Drop, GoOn, Order, Quit, Start
from raytune_ft.training.outcome import Outcome

SILENT_S = 30.0
"""A lane that was not heard for so long is lost; its client asks for orders every few seconds, also while it trains."""


class LaneScheduler:
    """The dispatcher's state.

    Args:
        lanes: How many there are, ready or not.
        max_failures: Restarts of a lane's workers that each trial on it may have, and see `after_fall`.
        outage_timeout_s: How long trials wait for a lane; by default for ever.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        lanes: int,
        max_failures: int,
        outage_timeout_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lanes = {number: LaneEntry() for number in range(lanes)}
        self._lost = LostLanes(self._lanes, max_failures, outage_timeout_s, clock)
        self._trials: dict[str, TrialEntry] = {}
        self._queue: deque[str] = deque()
        self._max_failures = max_failures
        self._clock = clock
        self._first_ready_s: float | None = None
        self._closing = False

    # What a trial's proxy says.

    def knows(self, trial: str) -> bool:
        """Whether the trial was submitted, and not dropped."""
        return trial in self._trials

    def submit(self, start: Start, owner: str, decided: int = 0) -> None:
        """Queues a trial; one that is known already only gets a new owner, and goes on as it was.

        Args:
            start: The trial.
            owner: Who waits for its events: only the latest owner's `drop` counts.
            decided: The step up to which the scheduler has let it go on, for one that was paused there.
        """
        name = start.spec.trial_id
        if name in self._trials:
            self._trials[name].owner = owner
            return
        self._trials[name] = TrialEntry(start, owner, decided)
        self._queue.append(name)
        self._assign()

    def event(self, trial: str) -> Message | None:
        """What the trial's owner has to hear, None while there is nothing. A report stays until `go_on`."""
        if trial not in self._trials or self._closing:
            return TrialGone()
        events = self._trials[trial].events
        return events[0] if events else None

    def go_on(self, trial: str) -> None:
        """The report was looked at, and the trial may train on."""
        known = self._trials.get(trial)
        if known is None or not known.events or not isinstance(report := known.events[0], TrialReport):
            return
        known.events.popleft()
        known.decided = report.metrics["step"]
        if known.ended:
            return
        if known.lane is not None:
            self._lanes[known.lane].outbox.append(GoOn(trial))
        else:  # its lane fell meanwhile
            self._queue.appendleft(trial)
            self._assign()

    def drop(self, trial: str, owner: str | None = None) -> None:
        """Forgets a trial, and stops it where it trains; `owner` None speaks for whoever owns it."""
        known = self._trials.get(trial)
        if known is None or (owner is not None and owner != known.owner):
            return
        del self._trials[trial]
        if trial in self._queue:
            self._queue.remove(trial)
        if known.lane is not None:
            lane = self._lanes[known.lane]
            lane.trials.remove(trial)
            if lane.take_back(trial):
                lane.handed -= 1
            else:
                lane.outbox.append(Drop(trial))
        self._assign()

    # What a lane says. A message of an earlier session, or about a trial that the lane does not have, is stale.

    def hello(self, lane: int) -> int:
        """A worker group of the lane starts; returns the number of its session."""
        this = self._lanes[lane]
        if this.here:
            self._release(this, Death("its workers were started anew"))
        this.session += 1
        this.reach(LaneState.loading)
        this.credit = this.handed = 0
        this.heard_s = self._clock()
        this.outbox = [Quit()] if self.over else []
        return this.session

    def ready(self, lane: int, session: int) -> None:
        """The lane has loaded the base."""
        if this := self._current(lane, session):
            self._lost.ready(this)
            if self._first_ready_s is None:
                self._first_ready_s = self._clock()
            self._assign()

    def credit(self, lane: int, session: int, starts: int) -> None:
        """The lane will take that many trials in this session, those included that it had or was sent."""
        if this := self._current(lane, session):
            this.credit = starts
            this.most = max(this.most, len(this.trials) + starts - this.handed)
            self._assign()

    def heard(self, lane: int, session: int) -> None:
        """The lane lives."""
        if this := self._current(lane, session):
            this.heard_s = self._clock()
            if this.silent:
                this.reach(this.reached)
                self._assign()

    def keeps(self, lane: int, session: int) -> bool:
        """Whether the lane, which lives and was long without an answer, still has the trials that it had."""
        this = self._current(lane, session)
        if this is None or this.silent:
            return False
        this.heard_s = self._clock()
        return True

    def has_orders(self, lane: int, session: int) -> bool:
        this = self._current(lane, session)
        return this is None or bool(this.outbox)

    def orders(self, lane: int, session: int) -> list[Order]:
        """What the lane has to hear, in order; an earlier session is told to quit."""
        this = self._current(lane, session)
        if this is None:
            return [Quit()]
        orders, this.outbox = this.outbox, []
        return orders

    def report(self, lane: int, session: int, trial: str, metrics: dict[str, Any]) -> None:
        """The trial reported, and waits. One that was restored repeats its last report, which is decided already."""
        if known := self._on(lane, session, trial):
            known.last = metrics
            if metrics["step"] <= known.decided:
                self._lanes[lane].outbox.append(GoOn(trial))
                return
            known.events.append(TrialReport(metrics))
            known.suspect, known.losses = False, 0
            self._lost.used(self._lanes[lane])
            self._assign()

    def ended(self, lane: int, session: int, trial: str, outcome: Outcome) -> None:
        """The trial ended."""
        if known := self._on(lane, session, trial):
            self._lanes[lane].trials.remove(trial)
            known.lane = None
            known.events.append(TrialEnded(outcome))
            self._lost.used(self._lanes[lane])
            self._assign()

    def bye(self, lane: int, session: int) -> None:
        """The lane does nothing more, but its processes are still there."""
        if this := self._current(lane, session):
            this.state = LaneState.left

    # What others ask.

    def room(self, unheard: int) -> int:
        """Trials that the lanes want at once; one that has not said so yet is taken to want `unheard`."""
        return sum(lane.most or unheard for lane in self._lanes.values() if not lane.lost)

    def line(self) -> str | None:
        """What the user has to hear now of lanes that are lost."""
        return self._lost.line()

    @property
    def given_up(self) -> str | None:
        """Why no lane will be there any more, and trials wait for nothing; None while they don't."""
        return self._lost.given_up

    def now(self) -> LanesNow:
        """How the lanes are."""
        away = {number for number, lane in self._lanes.items() if lane.lost and not lane.here}
        return LanesNow(self.given_up, frozenset(away))

    @property
    def over(self) -> bool:
        """Whether no worker group is wanted any more."""
        return self._closing or self.given_up is not None

    def all_left(self) -> bool:
        """Whether no lane does anything more."""
        return all(lane.state <= LaneState.left for lane in self._lanes.values())

    # What the dispatcher sees for itself.

    def fell(self, lane: int, death: Death) -> float | None:
        """The lane's worker group is no more; returns the seconds until another is to be started, None for none."""
        this = self._lanes[lane]
        blamed = self._release(this, death)
        pause_s = self._lost.fell(this, death, blamed)
        self._assign()
        return None if self._closing else pause_s

    def lose_silent(self, stood_still_s: float = 0.0) -> None:
        """Takes the trials from lanes that were not heard for long; called every now and then.

        Of the time since the last call, its caller did not run for `stood_still_s`, and could hear nobody.
        """
        self._lost.look(stood_still_s)
        for lane in self._lanes.values():
            lane.heard_s += stood_still_s
            late = not lane.silent and self._clock() - lane.heard_s > SILENT_S
            if late and (lane.listens or (lane.here and lane.trials)):
                lane.state = LaneState.silent if lane.listens else lane.state
                drops = [Drop(trial) for trial in lane.trials]  # for a lane that was only cut off
                self._release(lane, Death(f"its lane was not heard for {SILENT_S:g} s", cause=Cause.lost))
                lane.outbox = [*lane.outbox, *drops]
        self._assign()

    def close(self) -> None:
        """No trial will come any more: lanes are told to quit, proxies that nothing will come."""
        self._closing = True
        for lane in self._lanes.values():
            lane.outbox.append(Quit())

    def _current(self, lane: int, session: int) -> LaneEntry | None:
        this = self._lanes[lane]
        return this if this.here and this.session == session else None

    def _on(self, lane: int, session: int, trial: str) -> TrialEntry | None:
        this = self._current(lane, session)
        return self._trials[trial] if this is not None and trial in this.trials else None

    def _release(self, lane: LaneEntry, death: Death) -> bool:
        """Takes its trials from a lane, to the front of the queue; returns whether one is charged with the death."""
        blamed = False
        for name in reversed(lane.trials):
            trial = self._trials[name]
            trial.lane = None
            if trial.events:  # it waits for a decision, and had no part in this
                continue
            never_started = lane.take_back(name)
            if never_started or goes_on(trial, death, self._max_failures, alone=len(lane.trials) == 1):
                self._queue.appendleft(name)
            blamed |= not never_started and charged(death.cause, trial.losses)
        lane.trials, lane.outbox = [], []
        return blamed

    def _assign(self) -> None:
        """Hands waiting trials, in their order, to lanes that have room."""
        since_s = 0.0 if self._first_ready_s is None else self._clock() - self._first_ready_s
        while self._queue:
            trial = self._trials[self._queue[0]]
            share = not one_still_starts(self._lanes.values(), since_s)
            number = lane_for(trial, self._lanes, self._trials, share=share)
            if number is None:
                return
            lane = self._lanes[number]
            lane.trials.append(self._queue.popleft())
            lane.outbox.append(trial.start)
            lane.handed += 1
            trial.lane = number
