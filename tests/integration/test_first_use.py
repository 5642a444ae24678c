"""Requests that meet at the first use of a version: the real replica class, a stub where the engine is."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest


class Engine:
    """Loads as Ray's does: it asks first and loads then, and vLLM refuses what is loaded already."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    async def resolve_lora(self, model: str) -> None:
        if model in self.loaded:
            return
        await asyncio.sleep(0.01)
        if model in self.loaded:
            raise ValueError(f"Failed to load lora model: The lora adapter {model!r} has already been loaded.")
        self.loaded.append(model)


def test_requests_that_meet_at_a_versions_first_use_load_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray import serve

    from raytune_ft.serving.engine.ray_engine import RegistryServer

    asked: ContextVar[str] = ContextVar("asked")  # each request its own, as in Serve
    monkeypatch.setattr(serve, "get_multiplexed_model_id", asked.get)

    async def load(model: str) -> str:
        return model

    class Replica(RegistryServer):
        def __init__(self) -> None:
            self._turns = defaultdict(asyncio.Lock)
            self._llm_config: Any = SimpleNamespace(lora_config=object())
            self._load_model: Any = load
            self.engine: Any = Engine()

        def __del__(self) -> None:
            """Ray's would stop an engine."""

    async def ask(replica: Replica, model: str) -> None:
        asked.set(model)
        await replica._maybe_resolve_lora_from_multiplex()

    async def at_once() -> list[str]:
        replica: Any = Replica()
        await asyncio.gather(*(ask(replica, f"movies@{number % 2 + 1}") for number in range(6)))
        loaded: list[str] = replica.engine.loaded
        return loaded

    assert sorted(asyncio.run(at_once())) == ["movies@1", "movies@2"]
