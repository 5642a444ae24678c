"""Checks whether an engine can answer, with at most one probe a second for any number of callers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from raytune_ft.serving import background
from raytune_ft.serving.records.exception_lines import told

_log = logging.getLogger(__name__)
_FRESH_S = 1.0
_TIMEOUT_S = 5.0  # an engine in the middle of a long prompt answers the probe only afterwards


class Health:
    """The health of one engine.

    Args:
        probe: Makes a round trip to the engine; raises, returns False or takes too long if the engine can't answer.
        fresh_s: Seconds for which a probe's result is reused.
        timeout_s: Seconds that a probe may take.
    """

    def __init__(
        self, probe: Callable[[], Awaitable[bool]], *, fresh_s: float = _FRESH_S, timeout_s: float = _TIMEOUT_S
    ) -> None:
        self._probe, self._fresh_s, self._timeout_s = probe, fresh_s, timeout_s
        self._asking: asyncio.Task[bool] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._asked_at = self._heard_at = float("-inf")
        self.down = False
        """The engine can't answer at present, so that requests can be refused at once."""

    async def answers(self) -> bool:
        """Tells whether the engine can answer, by a probe that is at most `fresh_s` old."""
        stale = self._asking is None or (self._asking.done() and time.monotonic() - self._asked_at > self._fresh_s)
        if stale:
            self._asking = background.start(self._ask())
        assert self._asking is not None
        return await asyncio.shield(self._asking)  # a caller that is cancelled must not cancel it for the others

    def heard(self) -> None:
        """Notes that a request was answered, so that an engine too busy for a probe is not taken for dead."""
        self._heard_at = time.monotonic()

    def suspect(self) -> None:
        """Notes that a request failed; the engine now counts as down until a probe succeeds."""
        if self._watching is None or self._watching.done():
            self._asked_at = float("-inf")  # the last result is older than the failure
            self._watching = background.start(self._watch())

    async def _ask(self) -> bool:
        started = time.monotonic()
        try:
            return bool(await asyncio.wait_for(self._probe(), self._timeout_s))
        except TimeoutError:
            return self._heard_at > started
        except Exception as error:  # whatever the error, this engine can't answer
            _log.warning("the engine can't answer: %s", told(error))
            return False
        finally:
            self._asked_at = time.monotonic()

    async def _watch(self) -> None:
        while not await self.answers():
            self.down = True
            await asyncio.sleep(self._fresh_s)
        self.down = False
