"""A value that a thread of its own reads again and again: who asks gets the last one, and waits for no disk."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Follower(Generic[_T]):
    """Reads in a thread that ends with it; a read that fails or hangs leaves the value of before.

    Args:
        read: Reads the value, and may take as long as it likes.
        every_s: Pause between two reads.
        name: Of the thread, and in the log.

    Raises:
        Exception: What the first read raises, which is made here and now.
    """

    def __init__(self, read: Callable[[], _T], every_s: float, name: str) -> None:
        self._read, self._every_s, self._name = read, every_s, name
        self._read_at = time.monotonic()
        self._value = read()
        self._failure = ""
        self._wanted = threading.Event()
        self._waiting: list[Future[None]] = []
        self._lock = threading.Lock()

    @property
    def value(self) -> _T:
        """What was read last."""
        return self._value

    @property
    def age_s(self) -> float:
        """Seconds since the read began that gave the value."""
        return time.monotonic() - self._read_at

    def start(self) -> None:
        """Starts the thread; it ends some time after nobody holds the follower any more."""
        reading = threading.Thread(target=_follow, args=(weakref.ref(self), self._wanted, self._every_s))
        reading.name, reading.daemon = self._name, True
        reading.start()

    async def anew(self, timeout_s: float) -> None:
        """Waits until a read ended that began after this call, but no longer than `timeout_s`."""
        done: Future[None] = Future()
        with self._lock:
            self._waiting.append(done)
        self._wanted.set()
        await asyncio.wait([asyncio.wrap_future(done)], timeout=timeout_s)

    def read_again(self) -> None:
        """One read, by the thread."""
        with self._lock:
            asked, self._waiting = self._waiting, []
        began = time.monotonic()
        try:
            value = self._read()
        except Exception as error:  # whatever it is, what was read before is what there is
            failure = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            if failure != self._failure:
                _log.error("%s stays as it was: %s", self._name, failure)
            self._failure = failure
        else:
            if self._failure:
                _log.warning("%s is read again", self._name)
            self._value, self._read_at, self._failure = value, began, ""
        for each in asked:
            if each.set_running_or_notify_cancel():
                each.set_result(None)


def _follow(followed: weakref.ref[Follower[_T]], wanted: threading.Event, every_s: float) -> None:
    while (follower := followed()) is not None:
        wanted.clear()
        follower.read_again()
        del follower  # else it would live as long as the thread
        wanted.wait(every_s)
