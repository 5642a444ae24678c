"""What is slow to start is started in the background, and always ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from raytune_ft.execution.local_ray.background_start import BackgroundStart


class Slow:
    """Remembers what happened to it, and starts when it is let."""

    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[str] = []
        self.may_start = threading.Event()
        self.starter: threading.Thread | None = None
        self._error = error

    @contextmanager
    def __call__(self) -> Iterator[str]:
        self.starter = threading.current_thread()
        self.may_start.wait(5.0)
        if self._error:
            raise self._error
        self.seen.append("started")
        try:
            yield "value"
        finally:
            self.seen.append("ended")


def test_the_caller_goes_on_while_it_starts_and_then_gets_its_value() -> None:
    slow = Slow()
    with BackgroundStart(slow()) as early:
        early.begin()
        assert slow.seen == []
        slow.may_start.set()
        assert early.get() == "value" and slow.seen == ["started"]
        assert slow.starter is not None and slow.starter.is_alive()  # the kernel ends Ray with its starter
    assert slow.seen == ["started", "ended"]


def test_an_error_meanwhile_waits_for_the_start_and_ends_it() -> None:
    slow = Slow()
    with pytest.raises(ValueError, match="bad data"), BackgroundStart(slow()) as early:
        early.begin()
        threading.Timer(0.1, slow.may_start.set).start()
        raise ValueError("bad data")
    assert slow.seen == ["started", "ended"]


def test_what_was_not_asked_for_is_not_started() -> None:
    slow = Slow()
    with BackgroundStart(slow()):
        pass
    assert slow.seen == []


def test_what_keeps_it_from_starting_is_raised_where_it_is_needed() -> None:
    slow = Slow(OSError("no port"))
    slow.may_start.set()
    with pytest.raises(OSError, match="no port"), BackgroundStart(slow()) as early:
        early.begin()
        early.get()
