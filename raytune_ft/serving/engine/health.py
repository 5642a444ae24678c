"""Whether the engine can answer: asked at most once a second, however many ask."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from raytune_ft.serving import background
from raytune_ft.serving.records.exception_lines import told

_log = logging.getLogger(__name__)
_FRESH_S = 1.0
_TIMEOUT_S = 5.0  # an engine in the middle of a long prompt answers after it


class Health:
    """What is known of the engine.

    Args:
        probe: Goes all the way to the engine and back; raises, says False or takes too long where that can't answer.
        fresh_s: How long an answer counts.
        timeout_s: How long the engine may take.
    """

    def __init__(
        self, probe: Callable[[], Awaitable[bool]], *, fresh_s: float = _FRESH_S, timeout_s: float = _TIMEOUT_S
    ) -> None:
        self._probe, self._fresh_s, self._timeout_s = probe, fresh_s, timeout_s
        self._asking: asyncio.Task[bool] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._asked_at = self._heard_at = float("-inf")
        self.down = False
        """Nobody can answer now: requests need not wait to learn it."""

    async def answers(self) -> bool:
        """Whether the engine can answer, by a probe that is at most `fresh_s` old."""
        stale = self._asking is None or (self._asking.done() and time.monotonic() - self._asked_at > self._fresh_s)
        if stale:
            self._asking = background.start(self._ask())
        assert self._asking is not None
        return await asyncio.shield(self._asking)  # who goes away meanwhile does not end it for the others

    def heard(self) -> None:
        """A request was answered: an engine that is too busy for a probe is no dead one."""
        self._heard_at = time.monotonic()

    def suspect(self) -> None:
        """A request broke: while no probe succeeds from now on, the engine counts as down."""
        if self._watching is None or self._watching.done():
            self._asked_at = float("-inf")  # what was known is from before
            self._watching = background.start(self._watch())

    async def _ask(self) -> bool:
        started = time.monotonic()
        try:
            return bool(await asyncio.wait_for(self._probe(), self._timeout_s))
        except TimeoutError:
            return self._heard_at > started
        except Exception as error:  # whatever it is, this is no engine that can answer
            _log.warning("the engine can't answer: %s", told(error))
            return False
        finally:
            self._asked_at = time.monotonic()

    async def _watch(self) -> None:
        while not await self.answers():
            self.down = True
            await asyncio.sleep(self._fresh_s)
        self.down = False
