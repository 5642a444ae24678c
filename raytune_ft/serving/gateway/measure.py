"""Records how each request ended, its tokens and its latency, before the last part of the response is sent.

`Measure` runs inside the guard and around the app, so that it sees every way in which a request ends. `CountRefused`
runs outside the guard and only counts what the guard refused; the guard writes those records itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from raytune_ft.serving.gateway.guard import EXCHANGE, HEALTH, KEY_NAME, App, Message, Receive, Send, request_id
from raytune_ft.serving.models.routing import Route
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.records.line_file import MOST_BYTES
from raytune_ft.serving.records.listener import Listener
from raytune_ft.serving.records.log_queue import log_queue
from raytune_ft.serving.records.metrics import GONE, LOG_LOST, Metrics
from raytune_ft.serving.records.records import RecordLog, RequestRecord, utc_now
from raytune_ft.serving.settings import ServeArgs

_ROUTES = {"/completions": "completions", "/chat/completions": "chat"}
_ERROR_BYTES = 65536


@dataclass(frozen=True)
class Recorder:
    """Writes request records to the metrics, and to the access log where there is one."""

    metrics: Metrics
    log: RecordLog | None = None

    @property
    def keeps_words(self) -> bool:
        """Whether prompts and answers are logged."""
        return self.log is not None and self.log.prompts

    def write(self, record: RequestRecord) -> None:
        """Writes the record of a request that ended."""
        self.metrics.observe(record)
        if self.log is not None:
            self.log.write(record)


@dataclass
class Exchange:
    """One request while it is answered; each part that handles it notes here what the record will need."""

    request: str
    key: str | None
    route: str
    recorder: Recorder
    time: str = field(default_factory=utc_now)
    asked: str = ""
    answered: str | None = None
    alias: str | None = None
    stream: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    complete: bool = False
    """The whole stream was sent, so that a client that disconnects now has read it all."""
    failure: RequestError | None = None
    """The error that happened after the response had begun; its status is recorded, although a 200 was sent."""

    def routed(self, route: Route) -> None:
        """Notes the version that the request is sent to; called again if another version has to take over."""
        if self.answered is not None:
            self.recorder.metrics.ended(self.answered)
        self.answered, self.alias = route.model, route.alias
        self.recorder.metrics.begun(route.model)

    def heard(self, listener: Listener) -> None:
        """Notes the engine's answer: its token counts, and its failure if there was one."""
        self.prompt_tokens, self.completion_tokens = listener.prompt_tokens, listener.completion_tokens
        self.failure = listener.failure

    def record(self, status: int, code: str | None, ttft_ms: float | None, total_ms: float) -> RequestRecord:
        """Returns the request's record."""
        if self.failure is not None and status < 400:
            status, code = self.failure.status, self.failure.code
        return RequestRecord(
            time=self.time,
            request=self.request,
            key=self.key,
            route=self.route,
            asked=self.asked,
            answered=self.answered,
            alias=self.alias,
            status=status,
            code=code,
            stream=self.stream,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            ttft_ms=ttft_ms,
            total_ms=total_ms,
        )


class Measure:
    """ASGI middleware that gives each completion or chat an Exchange, and writes its record at the end."""

    def __init__(self, app: App, *, args: ServeArgs) -> None:
        self._app, self._recorder = app, recorder_of(args.log_dir, args.log_prompts, args.max_log_bytes)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        route = _route(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        exchange = Exchange(request_id(scope), scope.get(KEY_NAME), route, self._recorder)
        scope[EXCHANGE] = exchange
        watch = _Watch(send, exchange)
        try:
            await self._app(scope, receive, watch.send)
        except asyncio.CancelledError:
            watch.gone()
            raise
        except Exception:
            watch.broke()
            raise
        finally:
            watch.ended()


class CountRefused:
    """ASGI middleware that counts the requests which the guard refused."""

    def __init__(self, app: App, *, args: ServeArgs) -> None:
        self._app, self._metrics = app, recorder_of(args.log_dir, args.log_prompts, args.max_log_bytes).metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            refused = message["type"] == "http.response.start" and message["status"] >= 400
            if refused and EXCHANGE not in scope and scope["path"] != HEALTH:
                self._metrics.refused(int(message["status"]))
            await send(message)

        await self._app(scope, receive, counted)


@cache
def recorder_of(log_dir: str | None, log_prompts: bool, most_bytes: int = MOST_BYTES) -> Recorder:
    """Returns the recorder of this replica, which is made once."""
    queue, replica = log_queue(), f"{socket.gethostname()}-{os.getpid()}"
    log = RecordLog(Path(log_dir), replica, log_prompts, queue=queue, most_bytes=most_bytes) if log_dir else None
    metrics = Metrics()
    metrics.poll(LOG_LOST, lambda: [({}, queue.lost)])
    metrics.keep_told()
    return Recorder(metrics, log)


class _Watch:
    """Watches a response as it is sent: its status, its error code and its timing; then writes the record."""

    def __init__(self, send: Send, exchange: Exchange) -> None:
        self._send, self._exchange, self._started = send, exchange, time.perf_counter()
        self._complete = self._recorded = False
        self._error = b""
        self._status = 0
        self._code: str | None = None
        self._ttft_ms: float | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = int(message["status"])
        elif message["type"] == "http.response.body":
            if message.get("body") and self._ttft_ms is None:
                self._ttft_ms = self._passed_ms()
            self._complete = not message.get("more_body", False)
            if self._status >= 400 and len(self._error) < _ERROR_BYTES:
                self._error += message.get("body", b"")
            if self._complete or self._exchange.complete:  # before the end is sent: the record may be read at once
                self.ended()
        await self._send(message)

    def gone(self) -> None:
        """Notes that the client disconnected before the end of the response."""
        if not self._complete and not self._exchange.complete:
            self._status, self._code, self._complete = GONE, "client_gone", True

    def broke(self) -> None:
        """Notes that the app raised an error, which the middleware around it answers."""
        if not self._complete:
            self._status, self._code, self._complete = 500, "server_error", True

    def ended(self) -> None:
        """Writes the record once; if the app returned without completing the response, the client had disconnected."""
        if self._recorded:
            return
        self._recorded = True
        self.gone()
        if self._error:
            self._code = _code(self._error)
        if self._exchange.answered is not None:
            self._exchange.recorder.metrics.ended(self._exchange.answered)
        ttft_ms = self._ttft_ms if self._exchange.stream and self._status < 400 else None
        self._exchange.recorder.write(self._exchange.record(self._status, self._code, ttft_ms, self._passed_ms()))

    def _passed_ms(self) -> float:
        return round((time.perf_counter() - self._started) * 1000, 1)


def _route(scope: Message) -> str | None:
    before, _, path = str(scope["path"]).rpartition("/v1")
    return _ROUTES.get(path) if before == str(scope.get("root_path", "")) or not before else None


def _code(body: bytes) -> str | None:
    try:
        answered: Any = json.loads(body)
    except ValueError:
        return None
    error = answered.get("error") if isinstance(answered, dict) else None
    return str(error["code"]) if isinstance(error, dict) and error.get("code") else None
