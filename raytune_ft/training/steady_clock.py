"""The time of day as this process began, and from then on what a clock counts that never jumps."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_WALL_S, _MONOTONIC_S = time.time(), time.monotonic()


def steady_time() -> float:
    """Seconds since the epoch that only grow: durations and order stay right when somebody sets the clock."""
    return _WALL_S + time.monotonic() - _MONOTONIC_S


def steady_stamp() -> str:
    """`steady_time` as a report's `time`."""
    return datetime.fromtimestamp(steady_time(), UTC).isoformat(timespec="seconds")
