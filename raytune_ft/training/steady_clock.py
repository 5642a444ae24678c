"""A clock that starts with the time of day at the process's start and then runs monotonically."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_WALL_S, _MONOTONIC_S = time.time(), time.monotonic()


def steady_time() -> float:
    """Returns monotonic seconds since the epoch, so that durations and order stay right if the system clock is set."""
    return _WALL_S + time.monotonic() - _MONOTONIC_S


def steady_stamp() -> str:
    """Returns `steady_time` in the format of a report's `time`."""
    return datetime.fromtimestamp(steady_time(), UTC).isoformat(timespec="seconds")
