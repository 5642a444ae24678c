from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raytune_ft.serving.gateway.guard import KEY_NAME, Guard
from raytune_ft.serving.gateway.keys import create_key
from raytune_ft.serving.gateway.limits import check_request
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.records.exception_lines import AnswerBrokeOffError
from raytune_ft.serving.records.log_queue import log_queue
from raytune_ft.serving.records.records import read_records
from raytune_ft.serving.settings import API_KEY_VARIABLE, Limits, ServeArgs

KEY = "a-good-long-key"
LOCAL, REMOTE = ("127.0.0.1", 5000), ("10.0.0.9", 5000)
COMPLETIONS = ("POST", "/v1/completions")
GuardOf = Callable[[Any], Guard]


def scope_of(headers: dict[str, str], client: Any = LOCAL, asked: tuple[str, str] = COMPLETIONS) -> dict[str, Any]:
    return {
        "type": "http",
        "client": client,
        "method": asked[0],
        "path": asked[1],
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
    }


def request(
    guard_of: GuardOf,
    headers: dict[str, str],
    chunks: Iterable[bytes] = (b"{}",),
    client: Any = LOCAL,
    asked: tuple[str, str] = COMPLETIONS,
) -> tuple[int, Any, bytes | None]:
    """Status, JSON, and the body that the app behind the guard received (None if it was never asked)."""
    parts, sent, seen = list(chunks), [], []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    asyncio.run(guard_of(app)(scope_of(headers, client, asked), receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"]), seen[0] if seen else None


def small(**options: Any) -> ServeArgs:
    limits = {"max_body_bytes": 1024, **options.pop("limits", {})}
    return ServeArgs(base_model="x", limits=Limits(**limits), **options)


@pytest.fixture
def with_key(monkeypatch: pytest.MonkeyPatch) -> GuardOf:
    monkeypatch.setenv(API_KEY_VARIABLE, KEY)
    return lambda app: Guard(app, args=small())


@pytest.fixture
def without_key(monkeypatch: pytest.MonkeyPatch) -> GuardOf:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    return lambda app: Guard(app, args=small())


def test_the_right_key_comes_in_from_anywhere(with_key: GuardOf) -> None:
    assert request(with_key, {"Authorization": f"Bearer {KEY}"}, client=REMOTE) == (200, {}, b"{}")


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": KEY}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {KEY}x"},
     {"Authorization": f"bearer {KEY}"}, {"Authorization": "Bearer \xff"}, {"X-Api-Key": KEY}],
)  # fmt: skip
def test_any_other_key_is_401_in_openai_shape(with_key: GuardOf, headers: dict[str, str]) -> None:
    """Fault 28."""
    status, body, seen = request(with_key, headers)
    assert (status, seen) == (401, None)
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["code"] == "invalid_api_key"
    assert KEY not in json.dumps(body)


def test_without_a_key_only_this_machine_is_answered(without_key: GuardOf) -> None:
    """Fault 28."""
    assert request(without_key, {})[0] == 200
    for client in (REMOTE, None):
        assert request(without_key, {}, client=client)[0] == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Host": "localhost:8000"}, 200), ({"Host": "127.0.0.1"}, 200), ({"Host": "[::1]:8000"}, 200),
     ({"Host": "attacker.example:8000"}, 401), ({"Host": "localhost", "X-Forwarded-For": "127.0.0.1"}, 401),
     ({"Host": "localhost", "Forwarded": "for=10.0.0.9"}, 401)],
)  # fmt: skip
def test_without_a_key_neither_a_proxy_nor_a_rebound_name_counts_as_this_machine(
    without_key: GuardOf, headers: dict[str, str], status: int
) -> None:
    assert request(without_key, headers)[0] == status


@pytest.mark.parametrize(
    ("asked", "status"),
    [(("GET", "/v1/models"), 200), (("GET", "/v1/models/base:movies@3"), 200), (COMPLETIONS, 200),
     (("POST", "/v1/chat/completions"), 200), (("GET", "/docs"), 404), (("GET", "/openapi.json"), 404),
     (("GET", "/metrics"), 404), (("GET", "/redoc"), 404), (("POST", "/v1/load_lora_adapter"), 404),
     (("POST", "/v1/embeddings"), 404), (("GET", "/"), 404), (("GET", "/v1"), 404),
     (("POST", "/v1/completions/"), 404), (("POST", "//v1/completions"), 404), (("GET", "/api/jobs/"), 404),
     (("DELETE", "/v1/models"), 405), (("GET", "/v1/completions"), 405), (("OPTIONS", "/v1/completions"), 405),
     (("POST", "/health"), 404), (("GET", "/health/"), 404)],
)  # fmt: skip
def test_only_the_routes_that_are_wanted_lead_to_the_app(
    with_key: GuardOf, asked: tuple[str, str], status: int
) -> None:
    found, body, seen = request(with_key, {"Authorization": f"Bearer {KEY}"}, asked=asked)
    assert (found, seen is not None) == (status, status == 200)
    if status != 200:
        assert body["error"]["code"] in ("not_found", "method_not_allowed")
    assert request(with_key, {}, asked=asked)[0] == 401  # a stranger learns no route


def test_health_is_open_and_nothing_else(with_key: GuardOf) -> None:
    assert request(with_key, {}, client=REMOTE, asked=("GET", "/health"))[0] == 200


def test_a_websocket_gets_nowhere(without_key: GuardOf) -> None:
    async def unreachable(*_: Any) -> None:
        raise AssertionError("was asked")

    asyncio.run(without_key(unreachable)({**scope_of({}), "type": "websocket"}, unreachable, unreachable))


def test_a_body_in_pieces_arrives_whole(without_key: GuardOf) -> None:
    assert request(without_key, {}, [b"a" * 500, b"b" * 524])[2] == b"a" * 500 + b"b" * 524


@pytest.mark.parametrize(
    ("headers", "chunks"),
    [({"Content-Length": "1025"}, [b""]), ({}, [b"a" * 1000, b"b" * 25]), ({"Content-Length": "-1"}, [b""]),
     ({"Content-Length": "5"}, [b"a" * 1025])],
)  # fmt: skip
def test_a_large_body_is_413_before_it_is_parsed(
    without_key: GuardOf, headers: dict[str, str], chunks: list[bytes]
) -> None:
    """Fault 29."""
    status, body, seen = request(without_key, headers, chunks)
    assert (status, body["error"]["code"], seen) == (413, "request_too_large", None)


def test_a_length_of_thousands_of_digits_is_400(without_key: GuardOf) -> None:
    status, body, seen = request(without_key, {"Content-Length": "9" * 5000}, [b""])
    assert (status, body["error"]["code"], seen) == (400, "invalid_value", None)


@pytest.mark.parametrize(
    ("given", "status"), [("r-1/a:b", 200), ("x" * 128, 200), ("x" * 129, 400), ("\xe9", 400), ("a b", 400), ("", 400)]
)
def test_an_id_that_the_log_can_not_keep_as_it_is_is_400(without_key: GuardOf, given: str, status: int) -> None:
    assert request(without_key, {"x-request-id": given})[0] == status


@pytest.mark.parametrize(
    ("body", "param"),
    [({"n": 3}, "n"), ({"prompt": ["a", "b", "c"]}, "n"), ({"n": 2, "prompt": ["a", "b"]}, "n"),
     ({"prompt": [[1], [2], [3]]}, "n"), ({"max_tokens": 65}, "max_tokens"),
     ({"max_completion_tokens": 65}, "max_completion_tokens"), ({"min_tokens": 65}, "min_tokens")],
)  # fmt: skip
def test_a_request_that_asks_for_too_much_is_400(body: dict[str, Any], param: str) -> None:
    """Fault 29."""
    with pytest.raises(RequestError) as refused:
        check_request(SimpleNamespace(**body), Limits(max_n=2), max_model_len=64)
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(
    "body", [{}, {"n": 2}, {"prompt": [1, 2, 3]}, {"prompt": "text", "max_tokens": 64}, {"n": None}]
)
def test_an_ordinary_request_passes(body: dict[str, Any]) -> None:
    check_request(SimpleNamespace(**body), Limits(max_n=2), max_model_len=64)


class Client:
    """One request that is sent and read piece by piece, as a slow client does."""

    def __init__(self, guard: Guard, headers: dict[str, str], body: bytes | None = b"{}") -> None:
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self.to_app: asyncio.Queue[Any] = asyncio.Queue()
        if body is not None:
            self.to_app.put_nowait({"type": "http.request", "body": body, "more_body": False})
        scope = scope_of(headers)
        self.task = asyncio.create_task(guard(scope, self.to_app.get, self.sent.put))
        self.scope = scope

    async def read(self) -> Any:
        return await asyncio.wait_for(self.sent.get(), timeout=100)


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """Answers with pieces until the client goes away."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    gone = asyncio.create_task(receive())
    while not gone.done():
        await send({"type": "http.response.body", "body": b"data: piece\n\n", "more_body": True})
        await asyncio.sleep(0.01)


@pytest.fixture
def two_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ServeArgs, dict[str, dict[str, str]]]:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    path = tmp_path / "keys.json"
    headers = {name: {"Authorization": f"Bearer {create_key(path, name)}"} for name in ("alice", "bob")}
    args = small(
        api_keys_file=str(path), log_dir=str(tmp_path / "log"),
        limits={"max_concurrent_per_key": 2, "body_timeout_s": 0.3},
    )  # fmt: skip
    return args, headers


def test_a_key_has_so_many_places_and_a_stream_holds_one_until_its_client_goes(two_keys: Any) -> None:
    args, headers = two_keys

    async def run() -> None:
        guard = Guard(endless, args=args)
        streams = [Client(guard, headers["alice"]) for _ in range(2)]
        for stream in streams:
            assert (await stream.read())["status"] == 200
            assert (await stream.read())["body"] == b"data: piece\n\n"  # at once, though there is no end
            assert stream.scope[KEY_NAME] == "alice"
        third = Client(guard, headers["alice"])
        start, body = await third.read(), await third.read()
        assert (start["status"], dict(start["headers"])[b"retry-after"]) == (429, b"1")
        assert json.loads(body["body"])["error"]["code"] == "rate_limit_exceeded"
        assert (await Client(guard, headers["bob"]).read())["status"] == 200
        streams[0].to_app.put_nowait({"type": "http.disconnect"})
        await streams[0].task
        assert (await Client(guard, headers["alice"]).read())["status"] == 200
        streams[1].task.cancel()  # what Ray does to the replica's side of a client that is gone
        with pytest.raises(asyncio.CancelledError):
            await streams[1].task
        assert (await Client(guard, headers["alice"]).read())["status"] == 200

    asyncio.run(run())


def test_an_app_that_fails_frees_the_place_and_tells_nobody_the_prompt(
    two_keys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    args, headers = two_keys

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError(f"can't read {(await receive())['body']}")

    async def run() -> None:
        guard = Guard(broken, args=args)
        for _ in range(5):
            client = Client(guard, headers["alice"], b"canary-4711")
            start, body = await client.read(), await client.read()
            assert (start["status"], json.loads(body["body"])["error"]["code"]) == (500, "internal_error")
            assert b"canary" not in body["body"]

    asyncio.run(run())
    assert "RuntimeError in " in caplog.text and "canary" not in caplog.text


def test_an_answer_that_breaks_within_is_cut(two_keys: Any) -> None:
    args, headers = two_keys

    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("broken")

    async def run() -> None:
        with pytest.raises(AnswerBrokeOffError):
            await Client(Guard(breaks, args=args), headers["alice"]).task

    asyncio.run(run())


def test_a_body_that_trickles_is_408_and_frees_its_place(two_keys: Any) -> None:
    args, headers = two_keys

    async def run() -> None:
        guard = Guard(endless, args=args)
        slow = [Client(guard, headers["alice"], body=None) for _ in range(2)]
        slow[0].to_app.put_nowait({"type": "http.request", "body": b"{", "more_body": True})
        await asyncio.sleep(0)
        assert (await Client(guard, headers["alice"]).read())["status"] == 429
        start, body = await slow[0].read(), await slow[0].read()
        assert (start["status"], dict(start["headers"])[b"connection"]) == (408, b"close")
        assert json.loads(body["body"])["error"]["code"] == "request_timeout"
        assert (await slow[1].read())["status"] == 408
        assert (await Client(guard, headers["alice"]).read())["status"] == 200

    asyncio.run(run())


def test_a_client_that_goes_away_within_its_body_is_not_answered(two_keys: Any) -> None:
    args, headers = two_keys

    async def run() -> None:
        gone = Client(Guard(endless, args=args), headers["alice"], body=None)
        gone.to_app.put_nowait({"type": "http.request", "body": b'{"prompt"', "more_body": True})
        gone.to_app.put_nowait({"type": "http.disconnect"})
        await gone.task
        assert gone.sent.empty()

    asyncio.run(run())
    assert log_queue().flush(50)
    [record] = read_records(Path(args.log_dir))
    assert (record.key, record.status, record.code) == ("alice", 499, "client_gone")


def test_what_is_refused_leaves_a_record_without_the_key_or_the_body(
    two_keys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 32."""
    args, headers = two_keys
    secret, canary = headers["alice"]["Authorization"].removeprefix("Bearer "), "canary-4711"
    body = json.dumps({"prompt": canary}).encode()

    def of(app: Any) -> Guard:
        return Guard(app, args=args)

    with caplog.at_level(logging.DEBUG):
        request(of, {"Authorization": f"Bearer {secret}x"}, [body])
        request(of, {**headers["alice"], "x-request-id": "r-1"}, [body * 100])
        request(of, headers["alice"], [body], asked=("GET", "/metrics"))
        request(of, headers["alice"], [body])
    assert log_queue().flush(50)
    records = list(read_records(Path(args.log_dir)))
    assert [(each.key, each.route, each.status, each.code, each.request) for each in records] == [
        (None, "completions", 401, "invalid_api_key", ""),
        ("alice", "completions", 413, "request_too_large", "r-1"),
        ("alice", "other", 404, "not_found", ""),
    ]
    logged = caplog.text + "".join(path.read_text() for path in Path(args.log_dir).rglob("*") if path.is_file())
    keys_file = Path(args.api_keys_file).read_text()
    assert canary not in logged and secret not in logged + keys_file and secret[4:] not in logged + keys_file
