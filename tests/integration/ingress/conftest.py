"""The ingress as it answers: the real web app and Ray's own classes in this process, a stub where the engine is."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from raytune_ft.registry.store import Registry
from raytune_ft.serving.gateway.measure import recorder_of
from raytune_ft.serving.models.catalog import Catalog
from raytune_ft.serving.models.champions import NotLoadedError
from raytune_ft.serving.records.log_queue import log_queue
from raytune_ft.serving.records.records import RequestRecord, read_records
from raytune_ft.serving.settings import API_KEY_VARIABLE, ServeArgs

KEY = "canary-key-4711"
SECRET = "a prompt that no log may hold"


class ActorDiedError(Exception):
    """Stands for Ray's, which only a Ray can make."""


@dataclass
class StubEngine:
    """A handle of the engine's deployment that answers with the model's own name."""

    asked: list[Any] = field(default_factory=list)
    options_given: list[dict[str, Any]] = field(default_factory=list)
    cancelled: int = 0
    fails: Callable[[], Exception] | None = None
    breaks_off: str = ""
    lingers: bool = False
    unloadable: set[str] = field(default_factory=set)
    loads: asyncio.Event | None = None
    """Where it is set, a version is loaded as soon as that is."""
    well: bool = True
    died = ActorDiedError

    def options(self, **options: Any) -> StubEngine:
        self.options_given.append(options)
        return self

    @property
    def chat(self) -> Any:
        return self

    completions = can_answer = chat

    def remote(self, body: Any = None, raw: Any = None) -> Any:
        if body is None:
            return self._health()
        assert not raw.headers
        self.asked.append(body)
        return _Answers(self._stream(body) if body.stream else self._whole(body), self)

    @property
    def load(self) -> Any:
        return SimpleNamespace(remote=self._load)

    async def _load(self) -> bool:
        model = self.options_given[-1]["multiplexed_model_id"]
        if self.loads is not None:
            await self.loads.wait()
        self._refuse(model)
        return True

    def _refuse(self, model: str) -> None:
        if model in self.unloadable:
            raise NotLoadedError(f"{model}: ValueError: unsupported target at /secret/path")

    async def _health(self) -> bool:
        return self.well

    async def _whole(self, body: Any) -> AsyncIterator[Any]:
        from ray.llm._internal.serve.core.configs.openai_api_models import CompletionResponse, ErrorInfo, ErrorResponse

        self._refuse(body.model)
        if self.fails:
            raise self.fails()
        if body.max_tokens == 99:
            yield ErrorResponse(error=ErrorInfo(message="too long", type="BadRequestError", code=400, param="prompt"))
            return
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        choice = {"index": 0, "text": f"I am {body.model}", "finish_reason": "stop", "logprobs": None}
        yield CompletionResponse(id=f"cmpl-{body.request_id}", model=body.model, choices=[choice], usage=usage)

    async def _stream(self, body: Any) -> AsyncIterator[list[str]]:
        self._refuse(body.model)
        for word in ("I", " am", f" {body.model}"):
            yield [_chunk(model=body.model, choices=[{"index": 0, "text": word}])]
            if self.breaks_off == "error":
                raise ActorDiedError("/secret/path")
            if self.breaks_off == "silence":
                return
        if body.stream_options.include_usage:
            yield [_chunk(model=body.model, choices=[], usage={"prompt_tokens": 5, "completion_tokens": 3})]
        yield ["data: [DONE]\n\n"]
        if self.lingers:
            await asyncio.sleep(60)


@dataclass
class _Answers:
    """What a handle's call gives."""

    stream: AsyncIterator[Any]
    engine: StubEngine

    def __aiter__(self) -> AsyncIterator[Any]:
        return self.stream

    async def __anext__(self) -> Any:
        return await anext(self.stream)

    def cancel(self) -> None:
        self.engine.cancelled += 1


def _chunk(**value: Any) -> str:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n"


def write_version(registry: Registry, version: int, **changes: Any) -> None:
    """One more version of `movies`, without files."""
    manifest = {
        "schema": 1, "adapter": "movies", "version": version, "base_model": "base", "base_sha256": "same",
        "lora_rank": 4, "data_fingerprint": "f", "form": "prompt_completion", "study": "quickstart",
        "trial": "0003", "metrics": {}, "created": "2026-11-22T12:00:00+00:00", "command": "promote", "files": {},
    }  # fmt: skip
    directory = registry.root / "movies" / str(version)
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text(json.dumps({**manifest, **changes}))


@pytest.fixture
def promote(registry: Registry) -> Callable[..., None]:
    """`promote(version, **manifest)`: a new version of `movies` becomes its champion."""

    def promoting(version: int, **changes: Any) -> None:
        write_version(registry, version, **changes)
        registry.set_alias("movies", "champion", version)

    return promoting


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """`movies`, version 1 champion and 2 challenger."""
    registry = Registry(tmp_path / "registry")
    for version in (1, 2):
        write_version(registry, version)
    registry.set_alias("movies", "champion", 1)
    registry.set_alias("movies", "challenger", 2)
    return registry


@pytest.fixture
def engine() -> StubEngine:
    return StubEngine()


@pytest.fixture
def merged_engine(registry: Registry) -> StubEngine:
    """The challenger, version 2, is a merged model, and this is its engine."""
    path = registry.path("movies", 2) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "merged": True}))
    return StubEngine()


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def serve(
    registry: Registry, engine: StubEngine, log_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., TestClient]]:
    """Starts the ingress, and gives a client with the right key."""
    from raytune_ft.serving.engine import ray_llm

    monkeypatch.setenv(API_KEY_VARIABLE, KEY)
    recorder_of.cache_clear()
    record_factory = logging.getLogRecordFactory()  # a replica's has its process for itself
    clients: list[TestClient] = []

    def start(merged_engine: StubEngine | None = None, **options: Any) -> TestClient:
        args = ServeArgs(base_model="base", registry=str(registry.root), log_dir=str(log_dir), **options)
        card = ray_llm.ModelCard(id="base", object="model", owned_by="", permission=[], metadata={})
        engines = {"base": engine, **({"base:movies@2": merged_engine} if merged_engine else {})}
        ingress = ray_llm.RegistryIngress(
            catalog=Catalog("base", "same", str(registry.root), (), 8, ("movies@2",) if merged_engine else ()),
            args=args,
            llm_deployments=engines,
            model_cards=dict.fromkeys(engines, card),
        )
        app = ray_llm.web_app(args)
        for name, route in ray_llm._ROUTES.items():
            route(app)(getattr(ingress, name))
        headers = {"authorization": f"Bearer {KEY}", "x-request-id": "r-1"}
        client = TestClient(app, headers=headers, raise_server_exceptions=False)
        clients.append(client.__enter__())
        return client

    yield start
    for client in clients:
        client.__exit__()
    recorder_of.cache_clear()
    logging.setLogRecordFactory(record_factory)


@pytest.fixture
def key() -> str:
    return KEY


@pytest.fixture
def prompt() -> str:
    """What every question says, and no log may hold."""
    return SECRET


@pytest.fixture
def ask() -> Callable[..., Any]:
    """`ask(client, model, **options)`: a question as OpenAI's completions have it; the answer."""

    def asking(client: TestClient, model: str = "base:movies", **options: Any) -> Any:
        return client.post("/v1/completions", json={"model": model, "prompt": SECRET, "max_tokens": 8, **options})

    return asking


@pytest.fixture
def records(log_dir: Path) -> Callable[..., list[RequestRecord]]:
    """`records(shadow=False)`: what the endpoint has written down so far."""

    def reading(shadow: bool = False) -> list[RequestRecord]:
        assert log_queue().flush(50)
        return [record for record in read_records(log_dir) if record.shadow == shadow]

    return reading


@pytest.fixture
def wait_for() -> Callable[[Callable[[], Any]], Any]:
    """`wait_for(found)`: its value as soon as that is true."""

    def waiting(found: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 50
        while not (value := found()):
            assert time.monotonic() < deadline, "never came"
            time.sleep(0.01)
        return value

    return waiting
