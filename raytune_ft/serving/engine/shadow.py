"""Shadow traffic: repeats requests at the challenger in the background, compares the answers, and records the result.

Requests are dropped when too many wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from raytune_ft.serving import background
from raytune_ft.serving.gateway.measure import Recorder
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.records.exception_lines import told
from raytune_ft.serving.records.listener import Answer, Listener
from raytune_ft.serving.records.records import RequestRecord

_log = logging.getLogger(__name__)
_AT_ONCE = 2
_WAITING = 32
_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class ShadowJob:
    """One request to repeat at the challenger."""

    record: RequestRecord
    """The record of the shadow request, as far as it is known beforehand."""
    ask: Callable[[], Awaitable[Listener]]
    """Asks the challenger; raises a RequestError if that fails."""
    said: list[Answer]
    """The champion's answers, for the comparison."""


class Shadow:
    """Repeats requests at the challenger, a few at a time.

    Args:
        recorder: Writes a record of each repetition.
        at_once: Repetitions that run concurrently.
        waiting: Repetitions that may wait; further ones are dropped.
    """

    def __init__(self, recorder: Recorder, *, at_once: int = _AT_ONCE, waiting: int = _WAITING) -> None:
        self._recorder, self._at_once = recorder, at_once
        self._waiting: asyncio.Queue[ShadowJob] = asyncio.Queue(waiting)
        self._workers: set[asyncio.Task[None]] = set()

    def offer(self, job: ShadowJob) -> bool:
        """Queues a request and returns True, or drops it and returns False if the queue is full; never blocks."""
        try:
            self._waiting.put_nowait(job)
        except asyncio.QueueFull:
            self._recorder.metrics.shadow_dropped(job.record.answered or "")
            return False
        self._recorder.metrics.shadow_waiting(self._waiting.qsize())
        if len(self._workers) < self._at_once:
            worker = background.start(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return True

    async def _work(self) -> None:
        while not self._waiting.empty():
            job = self._waiting.get_nowait()
            self._recorder.metrics.shadow_waiting(self._waiting.qsize())
            self._recorder.write(await _repeat(job))


async def _repeat(job: ShadowJob) -> RequestRecord:
    started = time.perf_counter()
    try:
        heard = await asyncio.wait_for(job.ask(), _TIMEOUT_S)
    except RequestError as error:
        ended = replace(job.record, status=error.status, code=error.code)
    except TimeoutError:
        ended = replace(job.record, status=503, code="timeout")
    except Exception as error:  # no client waits for this answer, and the worker must go on with the next one
        _log.error("a shadow request failed: %s", told(error))
        ended = replace(job.record, status=500, code="server_error")
    else:
        ended = replace(
            job.record,
            prompt_tokens=heard.prompt_tokens,
            completion_tokens=heard.completion_tokens,
            agrees=heard.answers == job.said,
        )
    return replace(ended, total_ms=round((time.perf_counter() - started) * 1000, 1))
