"""The first chunk waits for nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from raytune_ft.serving.engine.batches import batches


async def source(*gaps_s: float, fails: bool = False) -> AsyncIterator[int]:
    for number, gap_s in enumerate(gaps_s):
        if gap_s:
            await asyncio.sleep(gap_s)
        yield number
    if fails:
        raise ValueError("broke off")


async def collect(chunks: AsyncIterator[int], pause_s: float) -> list[list[int]]:
    return [batch async for batch in batches(chunks, pause_s)]


def test_the_first_goes_at_once_and_fast_ones_go_together() -> None:
    async def run() -> None:
        started = time.perf_counter()
        stream = batches(source(0, 0.01, 0.01, 0.01), pause_s=100.0)
        assert await anext(stream) == [0]
        assert await anext(stream) == [1, 2, 3]  # the end of the source ends the pause
        assert time.perf_counter() - started < 50.0
        assert [batch async for batch in stream] == []

    asyncio.run(run())


def test_slow_ones_go_each_by_itself() -> None:
    assert asyncio.run(collect(source(0, 0.03, 0.03), pause_s=0.001)) == [[0], [1], [2]]


def test_what_came_before_an_error_is_given_before_it() -> None:
    async def run() -> list[int]:
        seen: list[int] = []
        with pytest.raises(ValueError, match="broke off"):
            async for batch in batches(source(0, 0, fails=True), pause_s=0.001):
                seen += batch
        return seen

    assert asyncio.run(run()) == [0, 1]


def test_nothing_is_no_batch() -> None:
    assert asyncio.run(collect(source(), pause_s=0.001)) == []


def test_who_stops_listening_stops_the_source() -> None:
    async def run() -> bool:
        ended = False

        async def endless() -> AsyncIterator[int]:
            nonlocal ended
            try:
                while True:
                    yield 0
                    await asyncio.sleep(0.001)
            finally:
                ended = True

        stream = batches(endless(), pause_s=0.001)
        await anext(stream)
        await stream.aclose()
        await asyncio.sleep(0.01)
        return ended

    assert asyncio.run(run())
