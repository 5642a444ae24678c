"""The challenger beside the champion: asked in the background, compared, recorded; dropped where there is no room."""

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
    """One request to repeat."""

    record: RequestRecord
    """The repetition's, as far as it is known before it is made."""
    ask: Callable[[], Awaitable[Listener]]
    """Asks the challenger; raises a RequestError where that fails."""
    said: list[Answer]
    """The champion's answers."""


class Shadow:
    """Repeats requests, a few at once.

    Args:
        recorder: Keeps a record of each.
        at_once: Repetitions under way together.
        waiting: Repetitions that wait; more are dropped.
    """

    def __init__(self, recorder: Recorder, *, at_once: int = _AT_ONCE, waiting: int = _WAITING) -> None:
        self._recorder, self._at_once = recorder, at_once
        self._waiting: asyncio.Queue[ShadowJob] = asyncio.Queue(waiting)
        self._workers: set[asyncio.Task[None]] = set()

    def offer(self, job: ShadowJob) -> bool:
        """Takes a request, or drops it where as many wait as may; never waits."""
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
    except Exception as error:  # nobody waits for this answer, and the next one must still be asked
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
