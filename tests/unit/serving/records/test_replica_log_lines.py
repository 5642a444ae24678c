"""Wherever a log line of a replica holds an exception, its text stays out, and the line says what it said."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

CANARY = "my account number is 4711"


class SystemsLookalike(OSError):
    """As requests' and Pillow's errors are, which quote what they were given."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


class SaysNone(Exception):
    def __str__(self) -> Any:
        return None


@pytest.mark.parametrize(
    "error",
    [
        ValueError(CANARY),
        KeyError(CANARY),
        OSError(CANARY),
        OSError(36, "File name too long", CANARY),
        SystemsLookalike(2, CANARY),
        asyncio.CancelledError(CANARY),
        ExceptionGroup(CANARY, [ValueError(CANARY)]),
    ],
    ids=repr,
)
def test_in_a_replica_an_exception_is_found_wherever_a_line_holds_it(
    error: BaseException, in_a_replica: None, logged: Callable[[], str]
) -> None:
    log = logging.getLogger("x")
    log.error(error)
    log.error("a %(e)s", {"e": error})
    log.error("results %r", [error, 1])
    log.error("results %s %s", 1, {"of": ({error}, [[error]])})
    assert CANARY not in logged()
    assert logged().count(type(error).__name__) >= 5


def test_in_a_replica_arguments_without_exceptions_are_handed_on_as_they_are(
    in_a_replica: None, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ([1, "two"], {"three": 3}, object(), 4.0)
    logging.getLogger("x").error("%s %s %s %d", *arguments)
    assert isinstance(caplog.records[0].args, tuple)
    assert all(new is old for new, old in zip(caplog.records[0].args, arguments, strict=True))


def test_in_a_replica_a_short_text_does_not_spoil_the_line(in_a_replica: None, logged: Callable[[], str]) -> None:
    log = logging.getLogger("x")
    log.error("request e failed", exc_info=ValueError("e"))
    log.error("request fail failed: fail", exc_info=ValueError("fail"))
    try:
        raise KeyError("movies")
    except KeyError:
        log.warning("loading movies, which no engine has")
    assert "request e failed\n" in logged()
    assert "request ValueError failed: ValueError\n" in logged()
    assert "loading movies," in logged()


@pytest.mark.parametrize("error", [Unspeakable(CANARY), SaysNone(CANARY)])
def test_in_a_replica_an_exception_that_cannot_be_written_breaks_no_line(
    error: Exception, in_a_replica: None, logged: Callable[[], str]
) -> None:
    logging.getLogger("x").error("failed: %s", error, exc_info=error)
    assert f"failed: {type(error).__name__}" in logged()
    assert CANARY not in logged()


def test_in_a_replica_asyncio_writes_no_arguments_of_a_callback(in_a_replica: None, logged: Callable[[], str]) -> None:
    def fail(prompt: str) -> None:
        raise KeyError("x")

    async def run() -> None:
        asyncio.get_running_loop().call_soon(fail, f"{CANARY}) or (not")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert "fail(...) at " in logged() and "KeyError in " in logged()
    assert CANARY not in logged()


def test_in_a_replica_what_nobody_catches_is_told_without_its_text() -> None:
    program = """
import sys, threading
from raytune_ft.serving.records.exception_lines import keep_texts_out_of_logs
keep_texts_out_of_logs()
class Left:
    def __del__(self): fail()
def fail():
    raise ValueError("can" + "ary")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Left()
fail()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "canary" not in ended.stderr
    for what in ("uncaught exception in a thread\n", "exception ignored\n", "uncaught exception\n"):
        assert what in ended.stderr
    assert ended.stderr.count("ValueError in <string>:8") == 3
