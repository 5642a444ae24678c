"""The ingress as it answers: the real web app and Ray's own classes in this process, a stub where the engine is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import canary, set_traffic
from raytune_ft.serving.catalog import Catalog
from raytune_ft.serving.measure import recorder_of
from raytune_ft.serving.records import RequestRecord, read_prompts, read_records
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
    well: bool = True

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

    async def _health(self) -> bool:
        return self.well

    async def _whole(self, body: Any) -> AsyncIterator[Any]:
        from ray.llm._internal.serve.core.configs.openai_api_models import CompletionResponse, ErrorInfo, ErrorResponse

        if self.fails:
            raise self.fails()
        if body.max_tokens == 99:
            yield ErrorResponse(error=ErrorInfo(message="too long", type="BadRequestError", code=400, param="prompt"))
            return
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        choice = {"index": 0, "text": f"I am {body.model}", "finish_reason": "stop", "logprobs": None}
        yield CompletionResponse(id=f"cmpl-{body.request_id}", model=body.model, choices=[choice], usage=usage)

    async def _stream(self, body: Any) -> AsyncIterator[list[str]]:
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


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """`movies`, version 1 champion and 2 challenger."""
    for version in (1, 2):
        directory = tmp_path / "registry" / "movies" / str(version)
        directory.mkdir(parents=True)
        manifest = {
            "schema": 1, "adapter": "movies", "version": version, "base_model": "base", "base_sha256": "same",
            "lora_rank": 4, "data_fingerprint": "f", "form": "prompt_completion", "study": "quickstart",
            "trial": "0003", "metrics": {}, "created": "2026-11-22T12:00:00+00:00", "command": "promote", "files": {},
        }  # fmt: skip
        (directory / "manifest.json").write_text(json.dumps(manifest))
    registry = Registry(tmp_path / "registry")
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
    from raytune_ft.serving import ray_llm

    monkeypatch.setenv(API_KEY_VARIABLE, KEY)
    recorder_of.cache_clear()
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


def ask(client: TestClient, model: str = "base:movies", **options: Any) -> Any:
    return client.post("/v1/completions", json={"model": model, "prompt": SECRET, "max_tokens": 8, **options})


def records(log_dir: Path, shadow: bool = False) -> list[RequestRecord]:
    return [record for record in read_records(log_dir) if record.shadow == shadow]


def wait_for(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 10
    while not (value := found()):
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.01)
    return value


def test_an_answer_names_its_version_and_leaves_a_record(serve: Any, engine: StubEngine, log_dir: Path) -> None:
    answer = ask(serve())
    assert answer.status_code == 200
    assert (answer.json()["model"], answer.json()["id"]) == ("base:movies@1", "cmpl-r-1")
    assert {"stream": True, "multiplexed_model_id": "base:movies@1"} in engine.options_given
    (record,) = records(log_dir)
    assert (record.request, record.key, record.route, record.stream) == ("r-1", "default", "completions", False)
    assert (record.asked, record.answered, record.alias) == ("base:movies", "base:movies@1", "champion")
    assert (record.status, record.prompt_tokens, record.completion_tokens) == (200, 5, 2)
    assert not any(SECRET in path.read_text() or KEY in path.read_text() for path in log_dir.iterdir())


def test_every_chunk_of_a_stream_names_the_version_and_the_usage_stays_inside(
    serve: Any, engine: StubEngine, log_dir: Path
) -> None:
    client = serve()
    lines = [line for line in ask(client, stream=True).text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert {chunk["model"] for chunk in chunks} == {"base:movies@1"}
    assert all(chunk["choices"] for chunk in chunks)
    shown = ask(client, stream=True, stream_options={"include_usage": True}).text
    assert '"usage":{"prompt_tokens":5' in shown
    for record in records(log_dir):
        assert (record.stream, record.completion_tokens) == (True, 3)
        assert record.ttft_ms is not None


def test_a_client_that_hangs_up_at_the_end_has_its_answer(
    serve: Any, registry: Registry, engine: StubEngine, log_dir: Path
) -> None:
    """OpenAI's client does: it reads no further than [DONE]."""
    set_traffic(registry, "movies", canary(100, shadow=True))
    engine.lingers = True
    app = serve().app

    async def run() -> None:
        body = json.dumps({"model": "base:movies", "prompt": "x", "max_tokens": 8, "stream": True}).encode()
        hung_up = asyncio.Event()
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            if (message := next(messages, None)) is not None:
                return message
            await hung_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if b"[DONE]" in message.get("body", b""):
                hung_up.set()

        headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "raw_path": b"", "query_string": b""}
        scope |= {"headers": [*headers, (b"x-request-id", b"r-1")], "client": ("127.0.0.1", 1), "root_path": ""}
        await asyncio.wait_for(app(scope, receive, send), 20)
        wait = time.monotonic() + 10
        while not records(log_dir, shadow=True) and time.monotonic() < wait:
            await asyncio.sleep(0.01)

    asyncio.run(run())
    (record,), (shadow,) = records(log_dir), records(log_dir, shadow=True)
    assert (record.status, record.completion_tokens, shadow.status) == (200, 3, 200)


def test_a_canary_and_a_sticky_user(serve: Any, registry: Registry) -> None:
    client = serve()
    set_traffic(registry, "movies", canary(50, by="user"))
    seen = set()
    for number in range(12):
        for name in ("user", "safety_identifier"):
            models = {ask(client, **{name: f"u{number}"}).json()["model"] for _ in range(3)}
            assert len(models) == 1
            seen |= models
    assert seen == {"base:movies@1", "base:movies@2"}
    assert len({ask(client).json()["model"] for _ in range(8)}) == 1  # the key stands for a user that is not named


def test_the_shadow_is_asked_besides_and_recorded(
    serve: Any, registry: Registry, engine: StubEngine, log_dir: Path
) -> None:
    set_traffic(registry, "movies", canary(100, shadow=True))
    client = serve()
    assert "base:movies@1" in ask(client, stream=True, stream_options={"include_usage": True}).text
    (shadow,) = wait_for(lambda: records(log_dir, shadow=True))
    assert (shadow.answered, shadow.alias, shadow.agrees, shadow.stream) == (
        "base:movies@2",
        "challenger",
        False,
        False,
    )
    assert (shadow.request, shadow.prompt_tokens, shadow.status) == ("r-1", 5, 200)
    assert [body.stream for body in engine.asked] == [True, False]
    (answered,) = records(log_dir)
    assert answered.answered == "base:movies@1"


def test_a_shadow_that_fails_does_not_touch_the_answer(
    serve: Any, registry: Registry, engine: StubEngine, log_dir: Path
) -> None:
    set_traffic(registry, "movies", canary(100, shadow=True))
    client = serve()
    assert ask(client, stream=True).status_code == 200
    wait_for(lambda: records(log_dir, shadow=True))
    engine.fails = lambda: ValueError("bad challenger")
    assert ask(client, stream=True).status_code == 200
    failed = wait_for(lambda: records(log_dir, shadow=True)[1:])[0]
    assert (failed.status, failed.code, failed.agrees) == (500, "server_error", None)


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"model": "base:none"}, 404, "model_not_found"),
        ({"model": "other"}, 404, "model_not_found"),
        ({"model": "base:movies@9"}, 404, "model_not_found"),
        ({"n": 10_000}, 400, "invalid_value"),
        ({"max_tokens": 99}, 400, "BadRequestError"),
        ({"temperature": "hot"}, 400, "invalid_value"),
    ],
)
def test_what_is_refused_leaves_a_record_too(
    serve: Any, log_dir: Path, options: dict[str, Any], status: int, code: str
) -> None:
    answer = ask(serve(), **options)
    (record,) = records(log_dir)
    assert (record.status, record.code) == (status, code) == (answer.status_code, answer.json()["error"]["code"])


def test_bad_json_leaves_a_record(serve: Any, log_dir: Path) -> None:
    answer = serve().post("/v1/completions", content=b"{not", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert [record.status for record in records(log_dir)] == [400]


def test_a_dead_engine_is_503_until_it_answers_again(serve: Any, engine: StubEngine, log_dir: Path) -> None:
    client = serve()
    engine.fails, engine.well = lambda: ActorDiedError("the actor at /secret/path died"), False
    broken = ask(client)
    assert (broken.status_code, broken.json()["error"]["code"]) == (503, "engine_unavailable")
    assert "secret" not in broken.text and int(broken.headers["retry-after"]) > 0
    wait_for(lambda: len(engine.asked) < (ask(client), len(records(log_dir)))[1])  # turned away unasked
    assert client.get("/health").status_code == 503
    engine.fails, engine.well = None, True
    wait_for(lambda: ask(client).status_code == 200)
    assert wait_for(lambda: client.get("/health").status_code == 200)
    assert {record.code for record in records(log_dir)} == {"engine_unavailable", None}


@pytest.mark.parametrize("how", ["error", "silence"])
def test_a_stream_that_breaks_off_says_so(serve: Any, engine: StubEngine, log_dir: Path, how: str) -> None:
    engine.breaks_off = how
    text = ask(serve(), stream=True).text
    assert '"code": "engine_unavailable"' in text and "secret" not in text
    (record,) = records(log_dir)
    assert (record.status, record.code) == (503, "engine_unavailable")


def test_an_error_of_ours_tells_nothing_of_the_inside(serve: Any, engine: StubEngine) -> None:
    engine.fails = lambda: KeyError("/secret/path")
    answer = ask(serve())
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "server_error")
    assert "secret" not in answer.text


def test_health_needs_no_key_and_tells_nothing(serve: Any, engine: StubEngine) -> None:
    client = serve()
    client.headers.pop("authorization")
    assert client.get("/v1/models").status_code == 401
    assert (client.get("/health").status_code, client.get("/health").json()) == (200, {"status": "ok"})


def test_words_are_kept_only_where_they_are_asked_for(serve: Any, log_dir: Path) -> None:
    client = serve(log_prompts=True)
    ask(client, stream=True)
    (kept,) = read_prompts(log_dir)
    assert (kept.request, kept.model, kept.asked, kept.answer) == ("r-1", "base:movies@1", SECRET, "I am base:movies@1")


def test_models_are_listed_with_their_facts(serve: Any) -> None:
    client = serve()
    listed = {model["id"]: model for model in client.get("/v1/models").json()["data"]}
    assert {"base", "base:movies", "base:movies@challenger", "base:movies@2"} <= listed.keys()
    assert listed["base:movies@2"]["metadata"]["study"] == "quickstart"
    assert client.get("/v1/models/base:movies@2").json() == listed["base:movies@2"]
    assert client.get("/v1/models/base:none").status_code == 404


def test_many_at_once_while_the_alias_moves(serve: Any, registry: Registry) -> None:
    """Fault 31 without the engine: each answer is one version's, whole."""
    client = serve()

    async def run() -> list[str]:
        import httpx

        transport = httpx.ASGITransport(app=client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=client.headers) as asking:

            async def one(number: int) -> str:
                if number % 10 == 0:
                    await asyncio.to_thread(registry.set_alias, "movies", "champion", 1 + number // 10 % 2)
                body = {"model": "base:movies", "prompt": "x", "max_tokens": 8}
                answer = (await asking.post("/v1/completions", json=body)).json()
                assert answer["choices"][0]["text"] == f"I am {answer['model']}"
                return str(answer["model"])

            return list(await asyncio.gather(*(one(number) for number in range(100))))

    assert set(asyncio.run(run())) == {"base:movies@1", "base:movies@2"}


def test_a_merged_version_is_asked_of_its_own_engine(
    serve: Any, engine: StubEngine, merged_engine: StubEngine, log_dir: Path
) -> None:
    client = serve(merged_engine)
    for model in ("base", "base:movies", "base:movies@challenger"):
        assert ask(client, model).status_code == 200
    assert [body.model for body in engine.asked] == ["base", "base:movies@1"]
    assert [body.model for body in merged_engine.asked] == ["base:movies@2"]
    assert merged_engine.options_given == [{"stream": True}], "it has no adapters to be routed by"
    assert [record.answered for record in records(log_dir)] == ["base", "base:movies@1", "base:movies@2"]


def test_a_dead_engine_turns_only_its_own_requests_away(
    serve: Any, engine: StubEngine, merged_engine: StubEngine
) -> None:
    client = serve(merged_engine)
    assert client.get("/health").status_code == 200
    merged_engine.fails, merged_engine.well = lambda: ActorDiedError("gone"), False
    assert ask(client, "base:movies@2").status_code == 503
    wait_for(lambda: client.get("/health").status_code == 503)
    asked = len(merged_engine.asked)
    assert ask(client, "base:movies@2").status_code == 503
    assert len(merged_engine.asked) == asked, "an engine that is down is not waited for"
    assert ask(client, "base:movies").status_code == ask(client, "base").status_code == 200


def test_a_merged_version_without_an_engine_is_told_to_be_one(serve: Any, merged_engine: StubEngine) -> None:
    answer = ask(serve(), "base:movies@challenger")
    assert answer.status_code == 404
    assert "is a model of its own without an engine here" in answer.json()["error"]["message"]
