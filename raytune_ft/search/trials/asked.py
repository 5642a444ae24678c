"""What an actor said some moments ago, for who may not wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Asked:
    """A question that is asked again and again.

    Args:
        ask: Returns Ray's reference to the answer.
        every_s: Between two questions.
    """

    def __init__(self, ask: Callable[[], Any], every_s: float = 0.5) -> None:
        self._ask, self._every_s = ask, every_s
        self._answer: Any = None
        self._asked_s = 0.0

    def news(self) -> tuple[Any, ...]:
        """The answer that has come since the last call, or () where none has; raises RayError where none will."""
        import ray

        came: tuple[Any, ...] = ()
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            answer, self._answer = self._answer, None
            came = (ray.get(answer),)
        if self._answer is None and time.monotonic() - self._asked_s > self._every_s:
            self._answer, self._asked_s = self._ask(), time.monotonic()
        return came
