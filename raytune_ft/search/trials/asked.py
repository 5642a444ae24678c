"""Polls an actor without waiting: callers get the answer of some moments ago."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Asked:
    """A remote call that is made again and again.

    Args:
        ask: Makes the call, and returns Ray's reference to the answer.
        every_s: Seconds between two calls.
    """

    def __init__(self, ask: Callable[[], Any], every_s: float = 0.5) -> None:
        self._ask, self._every_s = ask, every_s
        self._answer: Any = None
        self._asked_s = 0.0

    def news(self) -> tuple[Any, ...]:
        """Returns the answer that came since the last time, or () if none has; raises RayError if the call failed."""
        import ray

        came: tuple[Any, ...] = ()
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            answer, self._answer = self._answer, None
            came = (ray.get(answer),)
        if self._answer is None and time.monotonic() - self._asked_s > self._every_s:
            self._answer, self._asked_s = self._ask(), time.monotonic()
        return came
