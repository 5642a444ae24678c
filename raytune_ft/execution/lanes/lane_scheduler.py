"""Decides which lane trains which trial, and keeps the messages for both. It does no I/O, so that it can be tested."""

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
"""Seconds without a word after which a lane is lost; its client asks for orders every few seconds, also in training."""


class LaneScheduler:
    """The dispatcher's state.

    Args:
        lanes: How many lanes there are, ready or not.
        max_failures: How often each trial may cause a restart of its lane's workers; see `after_fall` too.
        outage_timeout_s: Seconds that trials wait for a lane; by default for ever.
        clock: A monotonic clock, in seconds.
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

    # Calls of a trial's proxy.

    def knows(self, trial: str) -> bool:
        """Returns whether the trial was submitted, and not dropped."""
        return trial in self._trials

    def submit(self, start: Start, owner: str, decided: int = 0) -> None:
        """Queues a trial; one that is known already only gets a new owner, and goes on as it was.

        Args:
            start: The trial.
            owner: Id of the one that waits for its messages; only the latest owner's `drop` counts.
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
        """Returns the next message for the trial's owner, None while there is none. A report stays until `go_on`."""
        if trial not in self._trials or self._closing:
            return TrialGone()
        events = self._trials[trial].events
        return events[0] if events else None

    def go_on(self, trial: str) -> None:
        """Lets the trial train on: its report was looked at."""
        known = self._trials.get(trial)
        if known is None or not known.events or not isinstance(report := known.events[0], TrialReport):
            return
        known.events.popleft()
        known.decided = report.metrics["step"]
        if known.ended:
            return
        if known.lane is not None:
            self._lanes[known.lane].outbox.append(GoOn(trial))
        else:  # its lane's workers ended meanwhile
            self._queue.appendleft(trial)
            self._assign()

    def drop(self, trial: str, owner: str | None = None) -> None:
        """Forgets a trial, and stops it where it trains; with `owner` None, whoever owns it."""
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

    # Calls of a lane. A message of an earlier session, or about a trial that the lane does not have, is ignored.

    def hello(self, lane: int) -> int:
        """Notes that a new worker group of the lane runs; returns the number of its session."""
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
        """Notes that the lane has loaded the base model."""
        if this := self._current(lane, session):
            self._lost.ready(this)
            if self._first_ready_s is None:
                self._first_ready_s = self._clock()
            self._assign()

    def credit(self, lane: int, session: int, starts: int) -> None:
        """Notes how many trials the lane takes in this session, those included that it had or was sent."""
        if this := self._current(lane, session):
            this.credit = starts
            this.most = max(this.most, len(this.trials) + starts - this.handed)
            self._assign()

    def heard(self, lane: int, session: int) -> None:
        """Notes that the lane is alive."""
        if this := self._current(lane, session):
            this.heard_s = self._clock()
            if this.silent:
                this.reach(this.reached)
                self._assign()

    def keeps(self, lane: int, session: int) -> bool:
        """Returns whether the lane, which was long without an answer, still has its trials; notes that it is alive."""
        this = self._current(lane, session)
        if this is None or this.silent:
            return False
        this.heard_s = self._clock()
        return True

    def has_orders(self, lane: int, session: int) -> bool:
        this = self._current(lane, session)
        return this is None or bool(this.outbox)

    def orders(self, lane: int, session: int) -> list[Order]:
        """Returns and clears the lane's orders, the oldest first; an earlier session is told to quit."""
        this = self._current(lane, session)
        if this is None:
            return [Quit()]
        orders, this.outbox = this.outbox, []
        return orders

    def report(self, lane: int, session: int, trial: str, metrics: dict[str, Any]) -> None:
        """Takes a trial's report. A restored trial repeats its last one, which is decided already, and goes on."""
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
        """Takes the trial's outcome, and frees its place on the lane."""
        if known := self._on(lane, session, trial):
            self._lanes[lane].trials.remove(trial)
            known.lane = None
            known.events.append(TrialEnded(outcome))
            self._lost.used(self._lanes[lane])
            self._assign()

    def bye(self, lane: int, session: int) -> None:
        """Notes that the lane's loop has ended, while its processes have not."""
        if this := self._current(lane, session):
            this.state = LaneState.left

    # Queries.

    def room(self, unheard: int) -> int:
        """Returns how many trials the lanes want at once; a lane that has not said so counts as `unheard`."""
        return sum(lane.most or unheard for lane in self._lanes.values() if not lane.lost)

    def line(self) -> str | None:
        """Returns a line for the user about lost lanes, or None where there is nothing new to say."""
        return self._lost.line()

    @property
    def given_up(self) -> str | None:
        """Why no lane will start any more, so that trials wait in vain; None while lanes run or may start."""
        return self._lost.given_up

    def now(self) -> LanesNow:
        """Returns the state of the lanes now."""
        away = {number for number, lane in self._lanes.items() if lane.lost and not lane.here}
        return LanesNow(self.given_up, frozenset(away))

    @property
    def over(self) -> bool:
        """Whether no worker group is wanted any more."""
        return self._closing or self.given_up is not None

    def all_left(self) -> bool:
        """Returns whether every lane's loop has ended."""
        return all(lane.state <= LaneState.left for lane in self._lanes.values())

    # What the dispatcher notices itself.

    def fell(self, lane: int, death: Death) -> float | None:
        """Notes that the lane's workers ended; returns the seconds until the next start, None where none follows."""
        this = self._lanes[lane]
        blamed = self._release(this, death)
        pause_s = self._lost.fell(this, death, blamed)
        self._assign()
        return None if self._closing else pause_s

    def lose_silent(self, stood_still_s: float = 0.0) -> None:
        """Takes the trials from lanes that were not heard from for too long; is called about once a second.

        For `stood_still_s` seconds since the last call, the caller did not run, and could hear no lane.
        """
        self._lost.look(stood_still_s)
        for lane in self._lanes.values():
            lane.heard_s += stood_still_s
            late = not lane.silent and self._clock() - lane.heard_s > SILENT_S
            if late and (lane.listens or (lane.here and lane.trials)):
                lane.state = LaneState.silent if lane.listens else lane.state
                drops = [Drop(trial) for trial in lane.trials]  # for a lane that is alive, but was cut off
                self._release(lane, Death(f"its lane was not heard for {SILENT_S:g} s", cause=Cause.lost))
                lane.outbox = [*lane.outbox, *drops]
        self._assign()

    def close(self) -> None:
        """Ends the search: lanes are told to quit, and proxies get `TrialGone`."""
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
        """Puts a lane's trials back to the front of the queue; returns whether one is charged with the death."""
        blamed = False
        for name in reversed(lane.trials):
            trial = self._trials[name]
            trial.lane = None
            if trial.events:  # it waits for a decision, so it can't be the cause
                continue
            never_started = lane.take_back(name)
            if never_started or goes_on(trial, death, self._max_failures, alone=len(lane.trials) == 1):
                self._queue.appendleft(name)
            blamed |= not never_started and charged(death.cause, trial.losses)
        lane.trials, lane.outbox = [], []
        return blamed

    def _assign(self) -> None:
        """Hands the queue's trials, in their order, to lanes that have room."""
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
