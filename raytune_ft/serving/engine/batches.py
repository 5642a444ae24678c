"""Batches the chunks of a stream between engine and ingress; the first chunk is passed on at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

_T = TypeVar("_T")


async def batches(source: AsyncIterable[_T], pause_s: float) -> AsyncGenerator[list[_T], None]:
    """Yields the items of `source` in batches: the first at once, then at most one batch in `pause_s` seconds.

    Ray's own batcher waits before its first batch too, which adds its whole interval to the time to first token.
    """
    queue: asyncio.Queue[_T | None] = asyncio.Queue()

    async def read() -> None:
        try:
            async for item in source:
                queue.put_nowait(item)
        finally:
            queue.put_nowait(None)

    reading = asyncio.create_task(read())
    try:
        ended = False
        while not ended:
            taken = [await queue.get()]
            while not queue.empty():
                taken.append(queue.get_nowait())
            ended = taken[-1] is None
            if batch := [item for item in taken if item is not None]:
                yield batch
            if not ended:
                await asyncio.wait({reading}, timeout=pause_s)
        await reading  # raises what the source raised
    finally:
        reading.cancel()
