"""A value that a background thread keeps rereading, so that its users get the last one without waiting for a disk."""

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
    """Rereads a value in a background thread; while a read fails or hangs, the last value stays.

    The thread ends some time after the follower is garbage-collected.

    Args:
        read: Reads the value; it may block.
        every_s: Seconds between two reads.
        name: Name of the thread, which is used in the log too.

    Raises:
        Exception: Whatever the first read raises; the constructor makes it at once.
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
        """The value that was read last."""
        return self._value

    @property
    def age_s(self) -> float:
        """Seconds since the start of the read that returned the value."""
        return time.monotonic() - self._read_at

    def start(self) -> None:
        """Starts the thread."""
        reading = threading.Thread(target=_follow, args=(weakref.ref(self), self._wanted, self._every_s))
        reading.name, reading.daemon = self._name, True
        reading.start()

    async def anew(self, timeout_s: float) -> None:
        """Waits for a read that begins after this call, but at most `timeout_s` seconds."""
        done: Future[None] = Future()
        with self._lock:
            self._waiting.append(done)
        self._wanted.set()
        await asyncio.wait([asyncio.wrap_future(done)], timeout=timeout_s)

    def read_again(self) -> None:
        """Reads once; the thread calls it."""
        with self._lock:
            asked, self._waiting = self._waiting, []
        began = time.monotonic()
        try:
            value = self._read()
        except Exception as error:  # whatever the error, the last value stays
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
        del follower  # otherwise this reference would keep it alive as long as the thread
        wanted.wait(every_s)
