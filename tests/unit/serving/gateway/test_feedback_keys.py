"""What one key says of its answers touches no other key's, and only answers that were given whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raytune_ft.errors import InputError
from raytune_ft.monitoring.feedback_rows import collect
from raytune_ft.serving.gateway.feedback import MOST_PER_ANSWER, FeedbackDesk
from raytune_ft.serving.gateway.guard import EXCHANGE, Guard
from raytune_ft.serving.gateway.keys import create_key
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.records.records import RecordLog, RequestRecord, read_prompts, utc_now
from raytune_ft.serving.settings import API_KEY_VARIABLE, ServeArgs


class Endpoint:
    """A log, and feedback that its keys give."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log, self.desk = RecordLog(directory, "a", prompts=True), FeedbackDesk(directory, "a")

    def answered(self, key: str | None, request: str, asked: str, answer: str) -> None:
        self.log.write_prompt(request, key, "base:movies@1", asked, answer)
        self.desk.answered(request, key)

    def say(self, key: str | None, request: str, score: float, completion: str | None = None) -> None:
        body = {"request_id": request, "score": score, "completion": completion}
        asyncio.run(self.desk.take(json.dumps(body).encode(), key))

    def rows(self) -> list[dict[str, Any]]:
        return [row.as_json() for row in collect(self.directory, 0.5).rows]


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    return Endpoint(tmp_path)


def test_feedback_is_joined_with_the_request_of_the_same_key_and_id(endpoint: Endpoint) -> None:
    """Fault 42: two clients chose the same id."""
    endpoint.answered("alice", "r1", "Review: good\nSentiment:", " positive")
    endpoint.answered("bob", "r1", "Review: mine\nSentiment:", " positive")
    endpoint.say("alice", "r1", 1)
    endpoint.say("bob", "r1", -1, " poison")
    assert endpoint.rows() == [
        {"prompt": "Review: good\nSentiment:", "completion": " positive"},
        {"prompt": "Review: mine\nSentiment:", "completion": " poison"},
    ]


def test_without_a_logged_request_of_its_own_a_keys_feedback_is_joined_with_nobodys(endpoint: Endpoint) -> None:
    endpoint.answered("alice", "r1", "Review: good\nSentiment:", " positive")
    endpoint.desk.answered("r1", "bob")
    endpoint.say("bob", "r1", -1, " poison")
    found = collect(endpoint.directory, 0.5)
    assert (found.rows, found.left_out) == ((), {"the request was not logged": 1})


def test_a_correction_displaces_no_answer_that_another_key_approved(endpoint: Endpoint) -> None:
    prompt = "Review: good\nSentiment:"
    for key in ("alice", "bob"):
        endpoint.answered(key, f"of-{key}", prompt, " positive")
    endpoint.answered("alice", "again", "Review: dull\nSentiment:", " positive")
    endpoint.answered("alice", "corrected", "Review: dull\nSentiment:", " positive")
    endpoint.say("alice", "of-alice", 1)
    endpoint.say("bob", "of-bob", -1, " poison")
    endpoint.say("alice", "again", 1)
    endpoint.say("alice", "corrected", -1, " negative")
    found = collect(endpoint.directory, 0.5)
    assert [row.as_json()["completion"] for row in found.rows] == [" positive", " poison", " negative"]
    assert found.left_out == {"another answer to its request was corrected": 1}
    assert found.by_key == {"alice": 2, "bob": 1}


@pytest.fixture
def unkeyed(endpoint: Endpoint) -> Callable[[str], None]:
    def log(request: str) -> None:
        old = {"time": utc_now(), "request": request, "model": "base@1", "asked": "prompt", "answer": " answer"}
        with (endpoint.directory / "requests-old.jsonl").open("a") as stream:
            stream.write(json.dumps(old) + "\n")

    return log


@pytest.mark.parametrize("key", [None, "alice"])
def test_a_log_of_before_keys_were_kept_is_joined_by_id(endpoint: Endpoint, unkeyed: Any, key: str | None) -> None:
    unkeyed("r1")
    assert [record.key for record in read_prompts(endpoint.directory)] == [None]
    endpoint.desk.answered("r1", key)
    endpoint.say(key, "r1", 1)
    assert len(endpoint.rows()) == 1


def test_but_not_where_the_id_may_be_anothers(endpoint: Endpoint, unkeyed: Any) -> None:
    for request in ("twice", "twice", "of-two", "also-keyed"):
        unkeyed(request)
    endpoint.answered("bob", "also-keyed", "another prompt", " answer")
    for key, request in (("alice", "twice"), ("alice", "of-two"), ("bob", "of-two"), ("alice", "also-keyed")):
        endpoint.desk.answered(request, key)
        endpoint.say(key, request, 1)
    found = collect(endpoint.directory, 0.5)
    assert (found.rows, found.left_out) == ((), {"several requests have its id": 4})


def test_an_answer_takes_a_few_feedbacks_and_the_last_counts(endpoint: Endpoint) -> None:
    """Fault 42."""
    endpoint.answered("alice", "r1", "prompt", " answer")
    for score in range(MOST_PER_ANSWER):
        endpoint.say("alice", "r1", score % 2)
    for _ in range(1000):
        with pytest.raises(RequestError) as refused:
            endpoint.say("alice", "r1", -1)
        assert (refused.value.status, refused.value.code) == (400, "too_much_feedback")
    assert len((endpoint.directory / "feedback-a.jsonl").read_text().splitlines()) == MOST_PER_ANSWER
    assert len(endpoint.rows()) == 1


def test_also_on_an_answer_that_only_the_log_knows(endpoint: Endpoint) -> None:
    endpoint.log.write(RequestRecord(utc_now(), "r1", "alice", "chat", "base"))
    for _ in range(MOST_PER_ANSWER):
        endpoint.say("alice", "r1", 1)
    with pytest.raises(RequestError, match="feedback"):
        endpoint.say("alice", "r1", 1)


@pytest.mark.parametrize("field", ["completion", "comment"])
def test_its_texts_are_of_limited_size(endpoint: Endpoint, field: str) -> None:
    endpoint.desk.answered("r1", "alice")
    with pytest.raises(RequestError) as refused:
        body = {"request_id": "r1", "score": 1, field: "x" * 100_000}
        asyncio.run(endpoint.desk.take(json.dumps(body).encode(), "alice"))
    assert (refused.value.status, refused.value.param) == (400, field)


App = Callable[[Any, Any, Any], Any]


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`door(app, steps)`: a client sends a request, reads so many messages and leaves; then feedback's status."""
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    token = create_key(tmp_path / "keys.json", "alice")
    args = ServeArgs(base_model="x", api_keys_file=str(tmp_path / "keys.json"), log_dir=str(tmp_path / "log"))

    def asking(app: App, read: int | None = None) -> int:
        guard = Guard(app, args=args)

        async def run() -> int:
            statuses: list[int] = []

            async def request(path: str, body: bytes, most: int | None) -> None:
                sent = 0

                async def receive() -> Any:
                    return {"type": "http.request", "body": body, "more_body": False}

                async def send(message: Any) -> None:
                    nonlocal sent
                    sent += 1
                    if "status" in message:
                        statuses.append(message["status"])
                    if sent == most:
                        raise asyncio.CancelledError  # what Serve does to the replica's side of a client that is gone

                headers = [(b"authorization", f"Bearer {token}".encode()), (b"x-request-id", b"r1")]
                scope = {"type": "http", "client": ("127.0.0.1", 1), "method": "POST", "path": path, "headers": headers}
                await guard(scope, receive, send)

            with contextlib.suppress(asyncio.CancelledError):
                await request("/v1/completions", b"{}", read)
            await request("/v1/feedback", b'{"request_id": "r1", "score": 1}', None)
            return statuses[-1]

        return asyncio.run(run())

    return asking


def streaming(pieces: int, *, failure: object = None, complete: bool = False, ends: bool = True) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange = scope[EXCHANGE] = SimpleNamespace(failure=None, complete=False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(pieces):
            if number == pieces - 1:
                exchange.failure, exchange.complete = failure, complete
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
        if ends:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


@pytest.mark.parametrize(
    ("app", "read", "status"),
    [
        (streaming(3), None, 200),
        (streaming(3), 2, 404),  # hung up in the middle
        (streaming(3), 1, 404),
        (streaming(3, failure=RequestError(503, "gone", "engine_unavailable")), None, 404),  # broke off
        (streaming(3, complete=True), 4, 200),  # read [DONE], and no further
        (streaming(3, ends=False), None, 404),
    ],
)
def test_an_answer_is_given_once_it_is_whole(door: Any, app: App, read: int | None, status: int) -> None:
    assert door(app, read) == status


def test_there_is_no_feedback_without_rows(endpoint: Endpoint) -> None:
    with pytest.raises(InputError, match="holds no feedback"):
        endpoint.rows()
