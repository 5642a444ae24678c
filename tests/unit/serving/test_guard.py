from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from raytune_ft.serving.guard import Guard
from raytune_ft.serving.limits import check_request
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.settings import API_KEY_VARIABLE, Limits

KEY = "a-good-long-key"
LOCAL, REMOTE = ("127.0.0.1", 5000), ("10.0.0.9", 5000)


def request(
    guard_of: Any, headers: dict[str, str], chunks: Iterable[bytes] = (b"{}",), client: Any = LOCAL
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

    scope = {
        "type": "http",
        "client": client,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    asyncio.run(guard_of(app)(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"]), seen[0] if seen else None


@pytest.fixture
def with_key(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv(API_KEY_VARIABLE, KEY)
    return lambda app: Guard(app, max_body_bytes=100)


@pytest.fixture
def without_key(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    return lambda app: Guard(app, max_body_bytes=100)


def test_the_right_key_comes_in_from_anywhere(with_key: Any) -> None:
    assert request(with_key, {"Authorization": f"Bearer {KEY}"}, client=REMOTE) == (200, {}, b"{}")


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": KEY}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {KEY}x"},
     {"Authorization": f"bearer {KEY}"}, {"Authorization": "Bearer \xff"}, {"X-Api-Key": KEY}],
)  # fmt: skip
def test_any_other_key_is_401_in_openai_shape(with_key: Any, headers: dict[str, str]) -> None:
    status, body, seen = request(with_key, headers)
    assert (status, seen) == (401, None)
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["code"] == "invalid_api_key"
    assert KEY not in json.dumps(body)


def test_without_a_key_only_this_machine_is_answered(without_key: Any) -> None:
    assert request(without_key, {})[0] == 200
    for client in (REMOTE, None):
        assert request(without_key, {}, client=client)[0] == 401


def test_a_body_in_pieces_arrives_whole(without_key: Any) -> None:
    assert request(without_key, {}, [b"a" * 50, b"b" * 50])[2] == b"a" * 50 + b"b" * 50


@pytest.mark.parametrize(
    ("headers", "chunks"),
    [({"Content-Length": "101"}, [b""]), ({}, [b"a" * 50, b"b" * 51]), ({"Content-Length": "-1"}, [b""]),
     ({"Content-Length": "5"}, [b"a" * 101])],
)  # fmt: skip
def test_a_large_body_is_413_before_it_is_parsed(
    without_key: Any, headers: dict[str, str], chunks: list[bytes]
) -> None:
    status, body, seen = request(without_key, headers, chunks)
    assert (status, body["error"]["code"], seen) == (413, "request_too_large", None)


@pytest.mark.parametrize(
    ("body", "param"),
    [({"n": 3}, "n"), ({"prompt": ["a", "b", "c"]}, "n"), ({"n": 2, "prompt": ["a", "b"]}, "n"),
     ({"prompt": [[1], [2], [3]]}, "n"), ({"max_tokens": 65}, "max_tokens"),
     ({"max_completion_tokens": 65}, "max_completion_tokens"), ({"min_tokens": 65}, "min_tokens")],
)  # fmt: skip
def test_a_request_that_asks_for_too_much_is_400(body: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as refused:
        check_request(SimpleNamespace(**body), Limits(max_n=2), max_model_len=64)
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(
    "body", [{}, {"n": 2}, {"prompt": [1, 2, 3]}, {"prompt": "text", "max_tokens": 64}, {"n": None}]
)
def test_an_ordinary_request_passes(body: dict[str, Any]) -> None:
    check_request(SimpleNamespace(**body), Limits(max_n=2), max_model_len=64)
