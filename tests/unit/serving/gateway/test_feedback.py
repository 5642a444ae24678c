from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from raytune_ft.config.data import DataFormat
from raytune_ft.data.sources.jsonl import read_rows
from raytune_ft.errors import InputError
from raytune_ft.monitoring.feedback_rows import collect, write_rows
from raytune_ft.serving.gateway import feedback
from raytune_ft.serving.gateway.feedback import MOST_PER_ANSWER, FeedbackDesk
from raytune_ft.serving.gateway.guard import Guard
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.records.records import RecordLog, RequestRecord, read_lines, utc_now
from raytune_ft.serving.settings import ServeArgs


def take(desk: FeedbackDesk, key: str | None = "alice", **body: Any) -> dict[str, Any]:
    return asyncio.run(desk.take(json.dumps(body).encode(), key))


@pytest.fixture
def desk(tmp_path: Path) -> FeedbackDesk:
    desk = FeedbackDesk(tmp_path, "a")
    desk.answered("r1", "alice")
    return desk


def test_feedback_on_an_own_answer_is_kept(desk: FeedbackDesk, tmp_path: Path) -> None:
    answer = take(desk, request_id="r1", score=-1, completion=" negative", comment="no joy in it")
    assert answer == {"object": "feedback", "request_id": "r1", "score": -1.0}
    [line] = read_lines(tmp_path / "feedback-a.jsonl")
    assert line.pop("time").startswith("20")
    assert line == {
        "key": "alice", "request_id": "r1", "score": -1.0, "completion": " negative", "comment": "no joy in it",
    }  # fmt: skip
    assert (tmp_path / "feedback-a.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("request_id", "key"), [("r2", "alice"), ("r1", "bob"), ("r1", None)])
def test_an_answer_of_nobody_or_of_another_key_is_404(desk: FeedbackDesk, request_id: str, key: str | None) -> None:
    with pytest.raises(RequestError) as refused:
        take(desk, key, request_id=request_id, score=1)
    assert (refused.value.status, refused.value.code) == (404, "request_not_found")


@pytest.mark.parametrize(
    ("body", "param"),
    [(b"{", None), (b"[]", None), (b'{"score": 1}', "request_id"), (b'{"request_id": "r1"}', "score"),
     (b'{"request_id": "r1", "score": 1.5}', "score"), (b'{"request_id": "r1", "score": NaN}', "score"),
     (b'{"request_id": "r1", "score": 1, "completion": ""}', "completion"),
     (b'{"request_id": "r1", "score": 1, "user": "x"}', "user"), (b'{"request_id": 1, "score": 1}', "request_id")],
)  # fmt: skip
def test_a_wrong_body_is_400_with_the_field(desk: FeedbackDesk, body: bytes, param: str | None) -> None:
    with pytest.raises(RequestError) as refused:
        asyncio.run(desk.take(body, "alice"))
    assert (refused.value.status, refused.value.param) == (400, param)


def test_only_so_many_answers_are_remembered(tmp_path: Path) -> None:
    desk = FeedbackDesk(tmp_path, "a", remembered=2)
    for request in ("r1", "r2", "r1", "r3"):
        desk.answered(request, None)
    take(desk, None, request_id="r1", score=1)
    with pytest.raises(RequestError, match="no answer was given"):
        take(desk, None, request_id="r2", score=1)


def test_an_answer_of_another_replica_is_found_in_its_log(tmp_path: Path) -> None:
    log = RecordLog(tmp_path, "b", prompts=False)
    for request, status in (("r1", 200), ("r2", 500)):
        log.write(RequestRecord(utc_now(), request, "alice", "chat", "base", status=status))
    desk = FeedbackDesk(tmp_path, "a")
    assert take(desk, request_id="r1", score=0)["request_id"] == "r1"
    for request, key in (("r2", "alice"), ("r1", "bob"), ("r", "alice")):
        with pytest.raises(RequestError, match="no answer was given"):
            take(desk, key, request_id=request, score=0)


def test_a_full_disk_is_told_to_the_client(desk: FeedbackDesk, tmp_path: Path) -> None:
    (tmp_path / "feedback-a.jsonl").mkdir()
    with pytest.raises(RequestError) as refused:
        take(desk, request_id="r1", score=1)
    assert refused.value.status == 503


def test_what_was_not_kept_uses_up_none_of_the_feedbacks(desk: FeedbackDesk, tmp_path: Path) -> None:
    (tmp_path / "feedback-a.jsonl").mkdir()
    for _ in range(MOST_PER_ANSWER + 1):
        with pytest.raises(RequestError, match="could not be kept"):
            take(desk, request_id="r1", score=1)
    (tmp_path / "feedback-a.jsonl").rmdir()
    for _ in range(MOST_PER_ANSWER):
        take(desk, request_id="r1", score=1)
    with pytest.raises(RequestError, match="already"):
        take(desk, request_id="r1", score=1)


def test_feedback_that_is_still_on_its_way_counts(desk: FeedbackDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        async def written(self, *_: object) -> None: ...

    monkeypatch.setattr(feedback, "log_queue", Slow)
    for _ in range(MOST_PER_ANSWER):
        with pytest.raises(RequestError, match="could not be kept"):
            take(desk, request_id="r1", score=1)
    with pytest.raises(RequestError, match="already"):
        take(desk, request_id="r1", score=1)


def ask(guard: Guard, path: str, request: str, body: bytes) -> tuple[int, Any]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"x-request-id", request.encode())]
    scope = {"type": "http", "client": ("127.0.0.1", 1), "method": "POST", "path": path, "headers": headers}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.mark.parametrize("status", [200, 400])
def test_the_door_takes_feedback_on_what_was_answered_through_it(status: int, tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    guard = Guard(app, args=ServeArgs(base_model="x", log_dir=str(tmp_path)))
    assert ask(guard, "/v1/chat/completions", "r1", b"{}")[0] == status
    found, answer = ask(guard, "/v1/feedback", "r2", b'{"request_id": "r1", "score": 1}')
    assert (found, answer.get("object")) == ((200, "feedback") if status == 200 else (404, None))
    without_log = Guard(app, args=ServeArgs(base_model="x"))
    assert ask(without_log, "/v1/feedback", "r2", b'{"request_id": "r1", "score": 1}')[0] == 404


Logged = Callable[..., None]


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    """Logs a request with its answer, and feedback on it."""
    log, desk = RecordLog(tmp_path, "a", prompts=True), FeedbackDesk(tmp_path, "a")

    def log_one(request: str, asked: Any, answer: str, score: float | None, completion: str | None = None) -> None:
        log.write_prompt(request, "alice", "base:movies@1", asked, answer)
        desk.answered(request, "alice")
        if score is not None:
            take(desk, request_id=request, score=score, completion=completion)

    return log_one


def test_approved_and_corrected_answers_become_rows_that_data_reads(logged: Logged, tmp_path: Path) -> None:
    logged("1", "Review: good\nSentiment:", " positive", 1)
    logged("2", "Review: dull\nSentiment:", " positive", -1, " negative")
    logged("3", "Review: odd\nSentiment:", " positive", 0.2)
    logged("4", "Review: good\nSentiment:", " positive", 0.9)
    logged("5", "Review: meh\nSentiment:", " neutral", None)
    logged("6", "Review: nul\0\nSentiment:", " neutral", 1)
    logged("7", [1, 2, 3], " neutral", 1)
    logged("8", "Review: empty\nSentiment:", " ", 1)
    logged("9", "Review: dull\nSentiment:", " neutral", 1)
    logged("10", "Review: twice\nSentiment:", " neutral", 1)
    logged("10", "Review: other\nSentiment:", " neutral", None)
    found = collect(tmp_path, min_score=0.5)
    assert (found.form, found.corrected, found.approved) == (DataFormat.prompt_completion, 1, 1)
    assert found.left_out == {
        "its score is too low": 1,
        "the same row is there already": 1,
        "data can't read it": 1,
        "the request holds more than one text": 1,
        "the answer is empty": 1,
        "another answer to its request was corrected": 1,
        "several requests have its id": 1,
    }
    write_rows(found.rows, tmp_path / "next.jsonl")
    rows, bad = read_rows("data.train", tmp_path / "next.jsonl", DataFormat.prompt_completion)
    assert bad.count == 0
    assert [row.as_json() for row in rows] == [
        {"prompt": "Review: good\nSentiment:", "completion": " positive"},
        {"prompt": "Review: dull\nSentiment:", "completion": " negative"},
    ]
    with pytest.raises(InputError, match="exists already"):
        write_rows(found.rows, tmp_path / "next.jsonl")


def test_conversations_become_messages_and_the_last_word_counts(logged: Logged, tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    logged("1", [{"role": "user", "content": parts}], "Hi.", -1)
    logged("2", [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "A cat.", 1)
    desk = FeedbackDesk(tmp_path, "b")
    desk.answered("1", "alice")
    take(desk, request_id="1", score=1)
    found = collect(tmp_path, min_score=0.5)
    write_rows(found.rows, tmp_path / "next.jsonl")
    rows, bad = read_rows("data.train", tmp_path / "next.jsonl", DataFormat.messages)
    user, answer = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}
    assert ([row.as_json() for row in rows], bad.count) == ([{"messages": [user, answer]}], 0)
    assert found.left_out == {"the request holds more than text": 1}


def test_rows_of_both_forms_need_a_choice(logged: Logged, tmp_path: Path) -> None:
    logged("1", "prompt", " answer", 1)
    logged("2", [{"role": "user", "content": "question"}], "answer", 1)
    with pytest.raises(InputError, match="both forms"):
        collect(tmp_path, 0.5)
    found = collect(tmp_path, 0.5, DataFormat.messages)
    assert (len(found.rows), found.left_out) == (1, {"it has the other form": 1})


def test_a_log_without_feedback_or_prompts_says_what_is_missing(desk: FeedbackDesk, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no feedback"):
        collect(tmp_path, 0.5)
    take(desk, request_id="r1", score=1)
    with pytest.raises(InputError, match="--log-prompts"):
        collect(tmp_path, 0.5)


def test_the_verbs_keys_and_feedback(logged: Logged, tmp_path: Path) -> None:
    from raytune_ft.cli.app import app

    file, to = tmp_path / "keys.json", tmp_path / "next.jsonl"
    made = CliRunner().invoke(app, ["keys", "create", "alice", "--file", str(file)])
    token = next(line for line in made.output.splitlines() if line.startswith("rft_"))
    assert made.output.count(token) == 1
    shown = CliRunner().invoke(app, ["keys", "list", "--file", str(file), "--json"])
    assert [key["name"] for key in json.loads(shown.stdout)] == ["alice"]
    assert CliRunner().invoke(app, ["keys", "revoke", "alice", "--file", str(file)]).exit_code == 0
    again = CliRunner().invoke(app, ["keys", "revoke", "alice", "--file", str(file)])
    assert isinstance(again.exception, InputError)
    logged("1", "prompt", " answer", 1)
    done = CliRunner().invoke(app, ["feedback", str(tmp_path), "--to", str(to), "--json"])
    assert json.loads(done.stdout)["rows"] == 1
    assert json.loads(to.read_text()) == {"prompt": "prompt", "completion": " answer"}
    nothing = CliRunner().invoke(app, ["feedback", str(tmp_path), "--to", str(tmp_path / "no"), "--min-score", "2"])
    assert "nothing was written" in nothing.output and "left out 1: its score is too low" in nothing.output
    assert not (tmp_path / "no").exists()
