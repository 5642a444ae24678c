"""Decides whether a lane whose workers ended is started again, or the study given up."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
"""The longest pause, in seconds, between two starts of a lane that lead to nothing; each is twice the one before."""
LAST_START_S = 1800.0
"""Seconds that a lane may still take to load the base model, if it is starting when the study's wait is over."""


@dataclass(frozen=True)
class Fall:
    """The end of a lane's workers, and the state of the study then.

    Attributes:
        starts_without_use: How many of the lane's starts in a row led to nothing, this one included.
        errors: How many of the last of these ended before the lane was ready, with the same exception or out of memory.
        ever_ready: Whether any lane of the study was ever ready.
        unready_s: Seconds for which no lane has been ready, or each ended soon after it was; 0 while one is useful.
        was_ready: Whether a lane was ready during this time.
        others_may_come: Whether another lane's workers load the base model, or are started for the first time.
    """

    starts_without_use: int = 0
    errors: int = 0
    ever_ready: bool = True
    unready_s: float = 0.0
    was_ready: bool = False
    others_may_come: bool = False


@dataclass(frozen=True)
class Again:
    """The lane is started again after `pause_s` seconds."""

    pause_s: float


@dataclass(frozen=True)
class GiveUp:
    """The study ends, as its lanes can't be kept; `why` is a clause for a person."""

    why: str


def after_fall(fall: Fall, max_failures: int, outage_timeout_s: float) -> Again | GiveUp:
    """Decides whether a lane is started again, and when.

    An error that the workers raise again and again, before any lane of the study was ready, is one that waiting does
    not cure, such as a broken model. All else may be an outage, and is waited for.

    Args:
        fall: What happened.
        max_failures: After how many starts with the same error another one follows.
        outage_timeout_s: Seconds that the study waits for a lane, since one was last ready, or since its start.
    """
    if not fall.others_may_come and not fall.ever_ready and fall.errors > max_failures:
        return GiveUp(f"no lane can be started, {fall.errors} time(s) with the same error")
    if why := too_long(fall.unready_s, outage_timeout_s, may_come=fall.others_may_come, was_ready=fall.was_ready):
        return GiveUp(why)
    if not fall.starts_without_use:
        return Again(0.0)
    pause_s = min(FIRST_PAUSE_S * 2 ** min(fall.starts_without_use - 1, 30), LONGEST_PAUSE_S)
    left_s = outage_timeout_s - fall.unready_s
    return Again(min(pause_s, left_s) if left_s > 0 else pause_s)  # so that one more start comes at the very end


def too_long(unready_s: float, outage_timeout_s: float, *, may_come: bool, was_ready: bool) -> str | None:
    """Returns why the study has waited long enough for a lane, as a clause for a person; None while it has not.

    Args:
        unready_s: See `Fall`.
        outage_timeout_s: See `after_fall`.
        may_come: Whether a lane is starting, which is waited for a while longer.
        was_ready: See `Fall`.
    """
    if unready_s < outage_timeout_s + (LAST_START_S if may_come else 0.0):
        return None
    return f"no lane has {'stayed' if was_ready else 'been'} ready for {span(unready_s)}"


def span(seconds: float) -> str:
    """Returns the time in words, e.g. `45 s` or `30 min`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
