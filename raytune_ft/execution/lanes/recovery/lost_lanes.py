"""Looks after lanes without workers: when each starts again, whether the study can go on, what its user is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from raytune_ft.execution.lanes.entries import Cause, Death, LaneEntry, LaneState
from raytune_ft.execution.lanes.recovery.retries import Again, Fall, GiveUp, after_fall, span, too_long

LINE_S = 60.0
"""Seconds between two lines about lanes that stay lost."""
STEADY_S = 300.0
"""Seconds after which a ready lane counts as useful, whether or not a trial reported."""


class LostLanes:
    """The part of the lane scheduler that deals with lanes whose workers ended.

    Args:
        lanes: All lanes, by their numbers.
        max_failures: See `after_fall`.
        outage_timeout_s: See `after_fall`.
        clock: A monotonic clock, in seconds.

    Attributes:
        given_up: Why no lane is started any more; None while they are.
    """

    def __init__(
        self, lanes: Mapping[int, LaneEntry], max_failures: int, outage_timeout_s: float, clock: Callable[[], float]
    ) -> None:
        self._lanes, self._clock = lanes, clock
        self._max_failures, self._outage_timeout_s = max_failures, outage_timeout_s
        self._ever_ready = False
        self._served_s = clock()  # when a lane could last be counted on
        self._said_s: float | None = None  # when the user was last told of lanes that are still lost
        self.given_up: str | None = None

    def ready(self, lane: LaneEntry) -> None:
        """Notes that the lane's workers have loaded the base model."""
        lane.reach(LaneState.ready)
        lane.ready_s, lane.failed_starts, lane.errors = self._clock(), 0, 0
        self._ever_ready = True
        self.look()

    def used(self, lane: LaneEntry) -> None:
        """Notes that the lane was useful, so that its earlier useless starts no longer count."""
        lane.useless_starts = 0
        if lane.reached is LaneState.ready:
            lane.reached = LaneState.useful
            lane.state = lane.reached if lane.up else lane.state

    def fell(self, lane: LaneEntry, death: Death, blamed: bool = False) -> float | None:
        """Notes that the lane's workers ended; returns the seconds until its next start, None where none follows.

        Args:
            lane: The lane.
            death: Why its workers ended.
            blamed: Whether a trial is charged with it, so that the lane itself may be well.
        """
        self.look()
        if blamed:
            self.used(lane)
        if lane.reached is LaneState.ready:
            lane.useless_starts += 1
        elif lane.reached < LaneState.ready:
            lane.failed_starts += 1
            same = lane.death is not None and _error(lane.death) == _error(death)
            lane.errors = (lane.errors if same else 0) + 1 if death.cause is Cause.raised else 0
        lane.reach(LaneState.absent)
        lane.credit = lane.handed = 0
        lane.death = death
        others = [each for each in self._lanes.values() if each is not lane]
        others_may_come = any(
            not each.errors and not each.silent and (each.here or not each.starts_without_use) for each in others
        )
        fall = Fall(
            lane.starts_without_use,
            lane.errors,
            self._ever_ready,
            self._unready_s(),
            self._one_was_ready(),
            others_may_come,
        )
        match after_fall(fall, self._max_failures, self._outage_timeout_s):
            case GiveUp(why):
                self.given_up = self.given_up or f"{why} ({death.reason})"
            case Again(pause_s):
                lane.again_s = self._clock() + pause_s
        return None if self.given_up else pause_s

    def look(self, stood_still_s: float = 0.0) -> None:
        """Notes which lanes are useful, and gives up after too long a wait; is called often, as lanes may say nothing.

        Args:
            stood_still_s: Seconds since the last call in which the caller did not run; they do not count.
        """
        now = self._clock()
        self._served_s += stood_still_s
        for lane in self._lanes.values():
            lane.ready_s += stood_still_s
            if lane.up and now - lane.ready_s >= STEADY_S:
                self.used(lane)
        if self._serving():
            self._served_s = now
            return
        starting = any(not lane.silent and (lane.here or lane.again_s <= now) for lane in self._lanes.values())
        wait = now - self._served_s, self._outage_timeout_s
        if why := too_long(*wait, may_come=starting, was_ready=self._one_was_ready()):
            self.given_up = self.given_up or f"{why}{self._reason(self._lanes.values())}"

    def line(self) -> str | None:
        """Returns the line that the user should see now, or None."""
        lost = [lane for lane in self._lanes.values() if lane.lost]
        now = self._clock()
        if not lost or self.given_up:
            said, self._said_s = self._said_s, None
            return None if said is None or self.given_up else "no lane is lost any more"
        if self._said_s is not None and now - self._said_s < LINE_S:
            return None
        self._said_s = now
        count = f"{len(lost)} of {len(self._lanes)} lane(s) {'is' if len(lost) == 1 else 'are'} lost"
        reason = self._reason(lost)
        starts_s = min(0.0 if lane.here else max(0.0, lane.again_s - now) for lane in lost)
        when = f"tried again in {span(starts_s)}" if starts_s else "being tried again"
        if any(lane.up for lane in self._lanes.values()):
            return f"{count}{reason}; {when}"
        left = span(max(0.0, self._outage_timeout_s - self._unready_s()))
        return f"{count}{reason}; {when}, for another {left} (resources.outage_timeout_s); trials wait"

    def _serving(self) -> bool:
        return any(lane.up and not lane.starts_without_use for lane in self._lanes.values())

    def _one_was_ready(self) -> bool:
        return any(lane.useless_starts > 1 for lane in self._lanes.values())

    @staticmethod
    def _reason(lanes: Iterable[LaneEntry]) -> str:
        reasons = ("it is not heard" if lane.silent else lane.death and lane.death.reason for lane in lanes)
        return next((f" ({reason})" for reason in reasons if reason), "")

    def _unready_s(self) -> float:
        return 0.0 if self._serving() else self._clock() - self._served_s


def _error(death: Death) -> str:
    """Returns the exception's name, which two deaths share that differ only in a path or a number."""
    return death.reason.split(":")[0]
