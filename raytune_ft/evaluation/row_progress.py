"""Logs the progress of scoring a split every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_S = 5.0


class RowProgress:
    """Callback with the number of rows done and of all rows; logs rows per second and the time left, also at the end.

    Args:
        log: Receives the lines.
        name: Name of the model that is scored.
        clock: Returns a monotonic time in seconds.
    """

    def __init__(self, log: Callable[[str], None], name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._name, self._clock = log, name, clock
        self._began_s = self._said_s = clock()

    def __call__(self, done: int, rows: int) -> None:
        now = self._clock()
        if done < rows and now - self._said_s < EVERY_S:
            return
        self._said_s = now
        rate = done / max(now - self._began_s, 1e-6)
        left = f", about {(rows - done) / rate:.0f} s left" if done < rows else ""
        self._log(f"{self._name}: {done} of {rows} test rows scored, {rate:.1f} rows/s{left}")
