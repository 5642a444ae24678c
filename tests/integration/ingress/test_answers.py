"""What the ingress answers, refuses and records, one version behind each name."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import canary, set_traffic
from raytune_ft.serving.records.line_file import LineFile
from raytune_ft.serving.records.log_queue import LogQueue, log_queue
from raytune_ft.serving.records.records import read_prompts


def test_an_answer_names_its_version_and_leaves_a_record(
    serve: Any, engine: Any, log_dir: Path, ask: Any, records: Any, key: str, prompt: str
) -> None:
    answer = ask(serve())
    assert answer.status_code == 200
    assert (answer.json()["model"], answer.json()["id"]) == ("base:movies@1", "cmpl-r-1")
    assert {"stream": True, "multiplexed_model_id": "base:movies@1"} in engine.options_given
    (record,) = records()
    assert (record.request, record.key, record.route, record.stream) == ("r-1", "default", "completions", False)
    assert (record.asked, record.answered, record.alias) == ("base:movies", "base:movies@1", "champion")
    assert (record.status, record.prompt_tokens, record.completion_tokens) == (200, 5, 2)
    assert not any(prompt in path.read_text() or key in path.read_text() for path in log_dir.iterdir())


def test_a_replica_that_serve_ends_writes_the_lines_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raytune_ft.serving.engine import ray_llm

    queue, file = LogQueue(), LineFile(tmp_path / "access-a.jsonl")
    monkeypatch.setattr(ray_llm, "log_queue", lambda: queue)
    for _ in range(5000):
        queue.put(file, b"{}\n")
    ray_llm.RegistryIngress.__new__(ray_llm.RegistryIngress).__del__()
    assert (tmp_path / "access-a.jsonl").read_bytes() == b"{}\n" * 5000


def test_every_chunk_of_a_stream_names_the_version_and_the_usage_stays_inside(
    serve: Any, engine: Any, ask: Any, records: Any
) -> None:
    client = serve()
    lines = [line for line in ask(client, stream=True).text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert {chunk["model"] for chunk in chunks} == {"base:movies@1"}
    assert all(chunk["choices"] for chunk in chunks)
    shown = ask(client, stream=True, stream_options={"include_usage": True}).text
    assert '"usage":{"prompt_tokens":5' in shown
    for record in records():
        assert (record.stream, record.completion_tokens) == (True, 3)
        assert record.ttft_ms is not None


def test_a_client_that_hangs_up_at_the_end_has_its_answer(
    serve: Any, registry: Registry, engine: Any, records: Any, key: str
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

        headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "raw_path": b"", "query_string": b""}
        scope |= {"headers": [*headers, (b"x-request-id", b"r-1")], "client": ("127.0.0.1", 1), "root_path": ""}
        await asyncio.wait_for(app(scope, receive, send), 20)
        wait = time.monotonic() + 10
        while not records(shadow=True) and time.monotonic() < wait:
            await asyncio.sleep(0.01)

    asyncio.run(run())
    (record,), (shadow,) = records(), records(shadow=True)
    assert (record.status, record.completion_tokens, shadow.status) == (200, 3, 200)


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
    serve: Any, options: dict[str, Any], status: int, code: str, ask: Any, records: Any
) -> None:
    answer = ask(serve(), **options)
    (record,) = records()
    assert (record.status, record.code) == (status, code) == (answer.status_code, answer.json()["error"]["code"])


def test_bad_json_leaves_a_record(serve: Any, records: Any) -> None:
    answer = serve().post("/v1/completions", content=b"{not", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert [record.status for record in records()] == [400]


@pytest.mark.parametrize("how", ["error", "silence"])
def test_a_stream_that_breaks_off_says_so(serve: Any, engine: Any, how: str, ask: Any, records: Any) -> None:
    engine.breaks_off = how
    text = ask(serve(), stream=True).text
    assert '"code": "engine_unavailable"' in text and "secret" not in text
    (record,) = records()
    assert (record.status, record.code) == (503, "engine_unavailable")


def test_an_error_of_ours_tells_nothing_of_the_inside(serve: Any, engine: Any, ask: Any) -> None:
    engine.fails = lambda: KeyError("/secret/path")
    answer = ask(serve())
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "server_error")
    assert "secret" not in answer.text


def test_a_prompt_in_an_error_s_text_comes_into_no_program_log(
    serve: Any, engine: Any, ask: Any, prompt: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine.fails = lambda: ValueError(f"can't tokenise {prompt!r}")
    client = serve()
    with caplog.at_level(logging.DEBUG):
        assert ask(client).status_code == 500
        logging.getLogger("ray.serve").exception("Request failed.", exc_info=engine.fails())
    assert "ValueError in " in caplog.text and "Request failed." in caplog.text
    assert prompt not in caplog.text


def test_health_needs_no_key_and_tells_nothing(serve: Any, engine: Any) -> None:
    client = serve()
    client.headers.pop("authorization")
    assert client.get("/v1/models").status_code == 401
    assert (client.get("/health").status_code, client.get("/health").json()) == (200, {"status": "ok"})


def test_words_are_kept_only_where_they_are_asked_for(serve: Any, log_dir: Path, ask: Any, prompt: str) -> None:
    client = serve(log_prompts=True)
    ask(client, stream=True)
    assert log_queue().flush(50)
    (kept,) = read_prompts(log_dir)
    assert (kept.request, kept.model, kept.asked, kept.answer) == ("r-1", "base:movies@1", prompt, "I am base:movies@1")


def test_models_are_listed_with_their_facts(serve: Any) -> None:
    client = serve()
    listed = {model["id"]: model for model in client.get("/v1/models").json()["data"]}
    assert {"base", "base:movies", "base:movies@challenger", "base:movies@2"} <= listed.keys()
    assert listed["base:movies@2"]["metadata"]["study"] == "quickstart"
    assert client.get("/v1/models/base:movies@2").json() == listed["base:movies@2"]
    assert client.get("/v1/models/base:none").status_code == 404
