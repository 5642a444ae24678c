"""What follows for a lane and its study when the lane's workers are no more."""

from __future__ import annotations

from dataclasses import dataclass

from raytune_ft.execution.entries import Cause

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
"""Between two starts of a lane that does not get ready; each pause is twice the one before."""


@dataclass(frozen=True)
class Fall:
    """A lane's workers that are no more, and the study around them.

    Attributes:
        cause: Of what kind their end was.
        failures: The lane's worker groups in a row that fell before they were ready, this one included; 0 where this
            one was ready, and a preempted one counts for none.
        errors: The last of these that ended with the same exception, or out of memory.
        ever_ready: Whether any lane of the study ever was.
        unready_s: How long no lane has been ready; 0 while one is.
        others_may_come: Whether another lane's workers load the base, or are started for the first time.
    """

    cause: Cause
    failures: int = 0
    errors: int = 0
    ever_ready: bool = True
    unready_s: float = 0.0
    others_may_come: bool = False


@dataclass(frozen=True)
class Again:
    """The lane is started again, after a pause of so many seconds."""

    pause_s: float


@dataclass(frozen=True)
class GiveUp:
    """The study ends, as its lanes can't be kept; `why` is a clause for a person."""

    why: str


def after_fall(fall: Fall, max_failures: int, outage_timeout_s: float) -> Again | GiveUp:
    """Whether a lane is started again, and when.

    An error that the workers raise again and again, before any lane of the study was ready, is one that waiting does
    not cure, such as a broken model. All else may be an outage, and is waited for.

    Args:
        fall: What happened.
        max_failures: Starts with the same error that are followed by another.
        outage_timeout_s: How long the study waits for a lane, from when one was ready last, or from its start.
    """
    if not fall.others_may_come:
        if not fall.ever_ready and fall.errors > max_failures:
            return GiveUp(f"no lane can be started, {fall.errors} time(s) with the same error")
        if fall.cause is not Cause.preempted and fall.unready_s >= outage_timeout_s:
            return GiveUp(f"no lane has been ready for {span(fall.unready_s)}")
    if not fall.failures or fall.cause is Cause.preempted:
        return Again(0.0)
    pause_s = min(FIRST_PAUSE_S * 2 ** min(fall.failures - 1, 30), LONGEST_PAUSE_S)
    left_s = outage_timeout_s - fall.unready_s
    return Again(min(pause_s, left_s) if left_s > 0 else pause_s)  # one more start at the very end


def span(seconds: float) -> str:
    """E.g. `45 s` or `30 min`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
