"""What a request started for later outlives it."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

from raytune_ft.serving.engine.health import Health
from raytune_ft.serving.engine.shadow import Shadow, ShadowJob
from raytune_ft.serving.gateway.measure import Recorder
from raytune_ft.serving.records.listener import Listener
from raytune_ft.serving.records.records import RequestRecord

REQUEST: contextvars.ContextVar[str | None] = contextvars.ContextVar("request", default=None)


class Silent:
    """Stands for metrics that nobody reads."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def test_neither_shadow_nor_probe_belongs_to_the_request_that_caused_it() -> None:
    """Serve would cancel them with it, as it knows by such a variable whose they are."""
    seen: list[str | None] = []

    async def ask() -> Listener:
        seen.append(REQUEST.get())
        return Listener()

    async def probe() -> bool:
        seen.append(REQUEST.get())
        return len(seen) > 2

    async def run() -> None:
        REQUEST.set("r-1")
        metrics: Any = Silent()
        Shadow(Recorder(metrics)).offer(ShadowJob(RequestRecord("t", "r-1", None, "chat", "m"), ask, []))
        health = Health(probe, fresh_s=0.001)
        health.suspect()
        await asyncio.sleep(0.05)
        assert await health.answers()

    asyncio.run(run())
    assert len(seen) >= 3 and set(seen) == {None}
