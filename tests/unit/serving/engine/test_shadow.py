"""The challenger is asked besides, and never at the champion's cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from raytune_ft.serving.engine.shadow import Shadow, ShadowJob
from raytune_ft.serving.gateway.measure import Recorder
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.records.listener import Answer, Listener
from raytune_ft.serving.records.records import RequestRecord

RECORD = RequestRecord("t", "r-1", None, "chat", "base:movies", "base:movies@2", "challenger", shadow=True)


@dataclass
class Counted:
    """Stands for the metrics."""

    dropped: int = 0
    waiting: list[int] = field(default_factory=list)

    def shadow_dropped(self, model: str) -> None:
        self.dropped += 1

    def shadow_waiting(self, count: int) -> None:
        self.waiting.append(count)

    def observe(self, record: RequestRecord) -> None: ...


@dataclass
class Kept:
    """Stands for the log."""

    records: list[RequestRecord] = field(default_factory=list)
    prompts: bool = False

    def write(self, record: RequestRecord) -> None:
        self.records.append(record)


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def recorder(counted: Counted, kept: Kept) -> Recorder:
    metrics: Any = counted
    log: Any = kept
    return Recorder(metrics, log)


def saying(text: str) -> Callable[[], Awaitable[Listener]]:
    async def ask() -> Listener:
        listener = Listener(words=True)
        listener.whole({"choices": [{"index": 0, "text": text}], "usage": {"prompt_tokens": 4, "completion_tokens": 2}})
        return listener

    return ask


@pytest.mark.parametrize(("said", "agrees"), [("good", True), ("bad", False)])
def test_the_record_says_whether_it_agrees(recorder: Recorder, kept: Kept, said: str, agrees: bool) -> None:
    async def run() -> None:
        assert Shadow(recorder).offer(ShadowJob(RECORD, saying(said), [Answer("good")]))
        await asyncio.sleep(0.01)

    asyncio.run(run())
    (record,) = kept.records
    assert (record.agrees, record.shadow, record.answered) == (agrees, True, "base:movies@2")
    assert (record.prompt_tokens, record.completion_tokens, record.status) == (4, 2, 200)
    assert record.total_ms is not None


def test_what_has_no_room_is_dropped_at_once(recorder: Recorder, kept: Kept, counted: Counted) -> None:
    async def run() -> None:
        release = asyncio.Event()
        under_way = most = 0

        async def ask() -> Listener:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await release.wait()
            under_way -= 1
            return Listener()

        shadow = Shadow(recorder, at_once=2, waiting=3)
        taken = []
        for _ in range(10):
            taken.append(shadow.offer(ShadowJob(RECORD, ask, [])))
            await asyncio.sleep(0)
        assert taken == [True] * 5 + [False] * 5
        release.set()
        await asyncio.sleep(0.01)
        assert most == 2

    asyncio.run(run())
    assert (len(kept.records), counted.dropped, counted.waiting[-1]) == (5, 5, 0)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RequestError(503, "gone", "engine_unavailable"), 503, "engine_unavailable"),
        (TimeoutError(), 503, "timeout"),
        (ValueError("?"), 500, "server_error"),
    ],
)
def test_a_challenger_that_fails_is_recorded_and_the_next_is_asked(
    recorder: Recorder, kept: Kept, error: Exception, status: int, code: str
) -> None:
    async def fail() -> Listener:
        raise error

    async def run() -> None:
        shadow = Shadow(recorder, at_once=1)
        shadow.offer(ShadowJob(RECORD, fail, []))
        shadow.offer(ShadowJob(RECORD, saying("good"), [Answer("good")]))
        await asyncio.sleep(0.01)

    asyncio.run(run())
    assert [(record.status, record.code, record.agrees) for record in kept.records] == [
        (status, code, None),
        (200, None, True),
    ]
