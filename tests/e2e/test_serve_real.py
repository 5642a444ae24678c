"""The real base on the real engine, with an adapter from a local registry: one start for everything."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from transformers import AutoTokenizer

from raytune_ft.execution.local_ray.alive import alive
from raytune_ft.registry.store import Registry
from raytune_ft.serving.local.ask import ask, client, forms, stream
from raytune_ft.serving.local.session import Endpoint, served
from raytune_ft.serving.records.records import read_records
from raytune_ft.serving.settings import API_KEY_VARIABLE, Limits, ServeArgs

KEY = "canary-key-4711"
BASE = "smollm2-135m-instruct"
PROMPT = "Review: a joyless, endless film.\nSentiment:"


@pytest.fixture(scope="module")
def registry(random_versions: Callable[[int], Registry]) -> Registry:
    return random_versions(2)


@pytest.fixture(scope="module")
def children_before() -> set[Any]:
    return set(psutil.Process().children(recursive=True))


def test_base_and_adapters_are_served_by_name_and_nothing_stays_behind(
    base_model: Path, registry: Registry, children_before: set[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 9, 28 and 29."""
    monkeypatch.setenv(API_KEY_VARIABLE, KEY)
    args = ServeArgs(
        base_model=str(base_model),
        registry=str(registry.root),
        port=0,
        max_model_len=128,
        limits=Limits(max_n=2),
        log_dir=str(tmp_path / "log"),
    )
    with served(args, log=print) as endpoint:
        started = set(psutil.Process().children(recursive=True)) - children_before
        assert any("EngineCore" in " ".join(each.cmdline()) or "vllm" in each.name().lower() for each in started)
        listen_only_on_loopback(started)
        names_are_listed(endpoint)
        answers_differ_by_model(endpoint)
        a_candidate_is_asked_before_it_is_registered(endpoint, registry, tmp_path / "candidate")
        a_moved_alias_answers_with_the_new_version(endpoint, registry)
        a_changed_file_is_not_served(endpoint, registry)
        wrong_requests_are_refused_in_openai_shape(endpoint)
        every_request_left_a_record(endpoint, tmp_path / "log")
        no_secret_in_command_lines(started)
        a_killed_ingress_comes_back_to_its_port(endpoint, started)
        assert ask(endpoint, BASE, PROMPT, "prompt_completion", max_tokens=2).text
    assert not [each for each in started if alive(each)]


def listen_only_on_loopback(processes: set[Any]) -> None:
    addresses = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses and all(ip in ("127.0.0.1", "::ffff:127.0.0.1", "::1") for ip in addresses), addresses


def names_are_listed(endpoint: Endpoint) -> None:
    movies = f"{BASE}:movies"
    assert endpoint.models == [BASE, movies, f"{movies}@champion", f"{movies}@1", f"{movies}@2"]
    assert forms(endpoint) == {BASE: None, **dict.fromkeys(endpoint.models[1:], "prompt_completion")}
    second: Any = client(endpoint).models.retrieve(f"{movies}@2")
    assert (second.id, second.metadata["trial"]) == (f"{movies}@2", "1")


def answers_differ_by_model(endpoint: Endpoint) -> None:
    base = ask(endpoint, BASE, PROMPT, "prompt_completion", max_tokens=8)
    champion = ask(endpoint, f"{BASE}:movies", PROMPT, "prompt_completion", max_tokens=8)
    second = ask(endpoint, f"{BASE}:movies@2", PROMPT, "prompt_completion", max_tokens=8)
    print(base, champion, second, sep="\n")
    assert len({base.text, champion.text, second.text}) == 3
    assert (base.model, champion.model) == (BASE, f"{BASE}:movies@1")
    assert "".join(stream(endpoint, BASE, PROMPT, "prompt_completion", max_tokens=8)) == base.text
    chunks = list(client(endpoint).completions.create(model=f"{BASE}:movies", prompt=PROMPT, max_tokens=8, stream=True))
    assert {chunk.model for chunk in chunks} == {f"{BASE}:movies@1"}
    assert all(chunk.choices for chunk in chunks)
    chat = ask(endpoint, BASE, {"messages": [{"role": "user", "content": "Hi"}]}, "messages")
    assert chat.text.startswith("Hello")


def a_candidate_is_asked_before_it_is_registered(endpoint: Endpoint, registry: Registry, copy: Path) -> None:
    """As the gate parity asks: the same weights in another directory answer as the version does, by text and tokens."""
    copy.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (copy / name).write_bytes((registry.path("movies", 2) / name).read_bytes())
    tokenizer: Any = AutoTokenizer.from_pretrained(Path("assets") / BASE)
    prompt, answer = tokenizer(PROMPT)["input_ids"], tokenizer(" negative")["input_ids"]
    row = {"prompt": prompt, "answer": answer, "places": [len(prompt) - 2], "length": len(prompt) + 1}
    rows = [{**row, "asked": PROMPT}, {**row, "asked": None}, {**row, "asked": [{"role": "user", "content": PROMPT}]}]
    by_text, by_tokens, by_chat = endpoint.answer_rows(copy, rows, 4)
    version = ask(endpoint, f"{BASE}:movies@2", PROMPT, "prompt_completion", max_tokens=4)
    assert tokenizer.decode(by_text["tokens"]) == version.text
    assert by_text["tokens"] == by_tokens["tokens"] and not by_text["read_otherwise"]
    assert by_text["answer"] == pytest.approx(by_tokens["answer"], abs=0.1) and max(by_text["answer"]) < 0
    assert (len(by_text["question"]), len(by_text["answer"])) == (1, len(answer))
    assert by_chat["read_otherwise"] and by_chat["question"] == []
    assert f"{BASE}:movies@3" not in [model.id for model in client(endpoint).models.list()]


def a_moved_alias_answers_with_the_new_version(endpoint: Endpoint, registry: Registry) -> None:
    second = ask(endpoint, f"{BASE}:movies@2", PROMPT, "prompt_completion", max_tokens=8)
    registry.set_alias("movies", "champion", 2)
    assert f"{BASE}:movies@previous" in [model.id for model in client(endpoint).models.list()]
    now = ask(endpoint, f"{BASE}:movies", PROMPT, "prompt_completion", max_tokens=8)
    assert (now.model, now.text) == (f"{BASE}:movies@2", second.text)


def a_changed_file_is_not_served(endpoint: Endpoint, registry: Registry) -> None:
    source = registry.path("movies", 2)
    broken = source.parent / "3"
    broken.mkdir()
    for path in source.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((broken / "manifest.json").read_text())
    (broken / "manifest.json").write_text(json.dumps({**manifest, "version": 3}))
    weights = broken / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(openai.APIStatusError) as refused:
        client(endpoint).completions.create(model=f"{BASE}:movies@3", prompt="x", max_tokens=1)
    assert (refused.value.status_code, refused.value.code) == (500, "model_not_loaded")
    assert str(broken) not in json.dumps(refused.value.body)


def wrong_requests_are_refused_in_openai_shape(endpoint: Endpoint) -> None:
    right = client(endpoint)
    wrong = client(Endpoint(endpoint.base_url, [], "wrong-key-4711"))
    with pytest.raises(openai.AuthenticationError) as refused:
        wrong.models.list()
    assert refused.value.code == "invalid_api_key"
    for model in (f"{BASE}:other", f"{BASE}:movies@9", "gpt-4", f"{BASE}:../../etc", f"{BASE}:movies@2/../1"):
        with pytest.raises(openai.NotFoundError) as missing:
            right.completions.create(model=model, prompt="x", max_tokens=1)
        assert missing.value.code == "model_not_found"
    for options in ({"n": 10_000}, {"max_tokens": 100_000}, {"max_tokens": -1}, {"prompt": "x " * 500}):
        with pytest.raises(openai.BadRequestError) as refused_value:
            right.completions.create(**{"model": BASE, "prompt": "x", "max_tokens": 1, **options})
        assert refused_value.value.message
    bad_json = httpx_post(endpoint, b"{not json")
    assert (bad_json.status_code, bad_json.json()["error"]["type"]) == (400, "invalid_request_error")
    large = httpx_post(endpoint, b" " * 10_000_000)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")


def every_request_left_a_record(endpoint: Endpoint, log: Path) -> None:
    answer = httpx_post(endpoint, json.dumps({"model": BASE, "prompt": PROMPT, "max_tokens": 3}).encode())
    deadline = time.monotonic() + 60
    while answer.headers["x-request-id"] not in {record.request for record in read_records(log)}:
        assert time.monotonic() < deadline  # a thread writes the records
        time.sleep(0.05)
    known = {record.request: record for record in read_records(log)}
    mine = known[answer.headers["x-request-id"]]
    assert (mine.key, mine.route, mine.answered, mine.status) == ("default", "completions", BASE, 200)
    assert (mine.completion_tokens, mine.prompt_tokens) == (3, answer.json()["usage"]["prompt_tokens"])
    streams = [record for record in known.values() if record.stream and record.status == 200]
    assert streams and all(record.ttft_ms and record.completion_tokens for record in streams)
    assert {400, 401, 404, 413, 500} <= {record.status for record in known.values()}
    written = "".join(path.read_text() for path in log.iterdir())
    assert PROMPT.splitlines()[0] not in written and KEY not in written


def a_killed_ingress_comes_back_to_its_port(endpoint: Endpoint, started: set[Any]) -> None:
    with client(endpoint) as connected:  # the kernel remembers its connection, and would keep the port for a minute
        assert connected.models.list().data
        [ingress] = [each for each in started if "RegistryIngress" in " ".join(each.cmdline())]
        ingress.kill()
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with contextlib.suppress(openai.APIError):
                assert client(endpoint, retries=0).models.list().data
                return
            time.sleep(0.2)
    raise AssertionError("nobody listens there any more")


def httpx_post(endpoint: Endpoint, body: bytes) -> Any:
    import httpx

    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    return httpx.post(f"{endpoint.base_url}/completions", content=body, headers=headers, timeout=300)


def no_secret_in_command_lines(processes: set[Any]) -> None:
    assert not [each for each in processes if KEY in " ".join(each.cmdline())]
