"""However a request ends, it leaves one record."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.serving.gateway import measure
from raytune_ft.serving.gateway.guard import EXCHANGE, KEY_NAME
from raytune_ft.serving.gateway.measure import CountRefused, Exchange, Measure, Recorder
from raytune_ft.serving.models.routing import Route
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.records.listener import Listener
from raytune_ft.serving.records.metrics import METRICS, Metric, Metrics
from raytune_ft.serving.records.records import RecordLog, RequestRecord, read_records
from raytune_ft.serving.settings import ServeArgs

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


class Told:
    """Stands for one of Ray's metrics and keeps what it is told."""

    def __init__(self, metric: Metric, calls: list[tuple[str, float, dict[str, str]]]) -> None:
        self._metric, self._calls = metric, calls

    def inc(self, value: float, labels: dict[str, str]) -> None:
        assert set(labels) == set(self._metric.labels), self._metric.name
        self._calls.append((self._metric.name, value, labels))

    set = observe = inc


@pytest.fixture
def told() -> list[tuple[str, float, dict[str, str]]]:
    return []


@pytest.fixture
def recorder(tmp_path: Path, told: list[Any], monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(Metrics(lambda metric: Told(metric, told)), RecordLog(tmp_path / "log", "one", True))
    monkeypatch.setattr(measure, "recorder_of", lambda *_: recorder)
    return recorder


def ask(app: Any, path: str = COMPLETIONS, method: str = "POST", **scope: Any) -> list[Any]:
    """What the app sends."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    headers = [(b"x-request-id", b"r-1")]
    asked = {"type": "http", "method": method, "path": path, "headers": headers, "client": ("127.0.0.1", 1), **scope}
    asyncio.run(Measure(app, args=ServeArgs(base_model="x"))(asked, receive, send))
    return sent


def answering(
    *bodies: bytes, status: int = 200, ends: bool = True, note: Callable[[Exchange], None] = lambda _: None
) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        note(scope[EXCHANGE])
        await send({"type": "http.response.start", "status": status, "headers": []})
        for number, body in enumerate(bodies, start=1):
            await send({"type": "http.response.body", "body": body, "more_body": number < len(bodies) or not ends})

    return app


def routed(exchange: Exchange) -> None:
    exchange.asked = "base:movies"
    exchange.routed(Route("base:movies@1", "champion"))
    listener = Listener()
    listener.whole({"usage": {"prompt_tokens": 5, "completion_tokens": 3}})
    exchange.heard(listener)


def only(tmp_path: Path) -> RequestRecord:
    (record,) = read_records(tmp_path / "log")
    return record


def test_an_answer_leaves_a_record(recorder: Recorder, tmp_path: Path, told: list[Any]) -> None:
    ask(answering(b"{}", note=routed), CHAT, **{KEY_NAME: "alice"})
    record = only(tmp_path)
    assert (record.request, record.key, record.route, record.status) == ("r-1", "alice", "chat", 200)
    assert (record.asked, record.answered, record.alias) == ("base:movies", "base:movies@1", "champion")
    assert (record.prompt_tokens, record.completion_tokens, record.ttft_ms) == (5, 3, None)
    assert record.total_ms is not None and record.total_ms >= 0
    in_flight = [value for name, value, _ in told if name == "raytune_ft_requests_in_flight"]
    assert in_flight == [1, 0]


def test_a_stream_has_a_time_to_its_first_token(recorder: Recorder, tmp_path: Path, told: list[Any]) -> None:
    def note(exchange: Exchange) -> None:
        routed(exchange)
        exchange.stream = True

    ask(answering(b"a", b"b", b"", note=note))
    record = only(tmp_path)
    assert record.ttft_ms is not None and record.total_ms is not None and 0 <= record.ttft_ms <= record.total_ms
    times = {name for name, _, _ in told if name.endswith("seconds")}
    assert times == {
        "raytune_ft_time_to_first_token_seconds",
        "raytune_ft_time_per_output_token_seconds",
        "raytune_ft_request_seconds",
    }


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_a_refusal_is_recorded_with_its_code_under_one_label(
    recorder: Recorder, tmp_path: Path, told: list[Any], status: int
) -> None:
    body = json.dumps(RequestError(status, "no", "some_code").body()).encode()
    ask(answering(body[:5], body[5:], status=status, note=lambda exchange: setattr(exchange, "asked", "x" * 999)))
    record = only(tmp_path)
    assert (record.status, record.code, record.answered, record.ttft_ms) == (status, "some_code", None, None)
    assert ("raytune_ft_errors", 1, {"model": "unknown", "code": "some_code"}) in told
    assert not [labels for _, _, labels in told if "x" in labels.get("model", "")]


def test_a_client_that_goes_away_is_recorded(recorder: Recorder, tmp_path: Path, told: list[Any]) -> None:
    ask(answering(b"a", b"b", ends=False, note=routed))
    assert (only(tmp_path).status, only(tmp_path).code) == (499, "client_gone")
    assert not [name for name, _, _ in told if name == "raytune_ft_errors"]


def test_a_client_that_hangs_up_after_the_end_of_a_stream_did_not_go_away(recorder: Recorder, tmp_path: Path) -> None:
    def note(exchange: Exchange) -> None:
        routed(exchange)
        exchange.complete = True

    ask(answering(b"a", b"data: [DONE]", ends=False, note=note))
    assert (only(tmp_path).status, only(tmp_path).code) == (200, None)


def test_a_cancelled_request_is_a_client_that_went_away(recorder: Recorder, tmp_path: Path, told: list[Any]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope[EXCHANGE])
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        ask(app)
    assert (only(tmp_path).status, only(tmp_path).code) == (499, "client_gone")
    assert [value for name, value, _ in told if name == "raytune_ft_requests_in_flight"] == [1, 0]


def test_an_app_that_breaks_is_recorded(recorder: Recorder, tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret")

    with pytest.raises(RuntimeError):
        ask(app)
    assert (only(tmp_path).status, only(tmp_path).code) == (500, "server_error")


def test_an_answer_that_broke_off_is_no_success(recorder: Recorder, tmp_path: Path) -> None:
    def note(exchange: Exchange) -> None:
        routed(exchange)
        exchange.failure = RequestError(503, "gone", "engine_unavailable")

    ask(answering(b"a", b"b", note=note))
    assert (only(tmp_path).status, only(tmp_path).code) == (503, "engine_unavailable")


@pytest.mark.parametrize(("path", "method"), [("/v1/models", "GET"), ("/health", "GET"), (COMPLETIONS, "GET")])
def test_other_routes_leave_no_record(recorder: Recorder, tmp_path: Path, path: str, method: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert EXCHANGE not in scope

    ask(app, path, method)
    assert not list(read_records(tmp_path / "log"))


def test_what_the_door_refuses_is_counted_and_what_passes_is_not(
    recorder: Recorder, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ServeArgs(base_model="x")

    async def run(app: Any, path: str) -> None:
        async def send(message: Any) -> None: ...

        scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        await CountRefused(app, args=args)(scope, lambda: None, send)  # type: ignore[arg-type]

    async def door(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})

    asyncio.run(run(door, COMPLETIONS))
    asyncio.run(run(door, "/health"))
    asyncio.run(run(Measure(answering(b"", status=404), args=args), COMPLETIONS))
    refused = [call for call in told if call[0] == "raytune_ft_refused"]
    assert refused == [("raytune_ft_refused", 1, {"status": "401"})]


def test_a_shadow_is_counted_apart(recorder: Recorder, told: list[Any]) -> None:
    recorder.write(
        RequestRecord(
            "t", "r", None, "chat", "base:movies", "base:movies@2", "challenger", shadow=True, agrees=True, total_ms=5.0
        )
    )
    names = [name for name, _, _ in told]
    assert names == ["raytune_ft_requests", "raytune_ft_shadow_compared"]
    assert told[0][2]["shadow"] == "true"


def test_gauges_are_told_again_because_ray_forgets_them(told: list[Any]) -> None:
    metrics = Metrics(lambda metric: Told(metric, told))
    metrics.begun("base")
    metrics.keep_told(every_s=0.001)
    deadline = time.monotonic() + 25
    while len([call for call in told if call == ("raytune_ft_requests_in_flight", 1, {"model": "base"})]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert ("raytune_ft_shadow_waiting", 0, {}) in told


def test_every_metric_is_named_once() -> None:
    names = [name for metric in METRICS for name in metric.exported]
    assert len(names) == len(set(names))
    assert all(name.startswith("ray_raytune_ft_") for name in names)
