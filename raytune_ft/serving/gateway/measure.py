"""How each request ended, what it cost, how long it took: one record, written before the last of its answer leaves.

`Measure` stands behind the door, around the app: whatever way a request ends there, it is seen. `CountRefused` stands
before the door and only counts what did not come through; the door leaves those records itself.
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
    """Keeps what a request did: in the log, where there is one, and in the metrics."""

    metrics: Metrics
    log: RecordLog | None = None

    @property
    def keeps_words(self) -> bool:
        """Whether prompts and answers are wanted."""
        return self.log is not None and self.log.prompts

    def write(self, record: RequestRecord) -> None:
        """Keeps one request that ended."""
        self.metrics.observe(record)
        if self.log is not None:
            self.log.write(record)


@dataclass
class Exchange:
    """One request while it is answered; who learns something of it notes it here."""

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
    """All of a stream was handed out; whoever hangs up now has read it."""
    failure: RequestError | None = None
    """What went wrong after the answer had begun; its status tells what the client's 200 could not."""

    def routed(self, route: Route) -> None:
        """It goes to this version, or now to this one."""
        if self.answered is not None:
            self.recorder.metrics.ended(self.answered)
        self.answered, self.alias = route.model, route.alias
        self.recorder.metrics.begun(route.model)

    def heard(self, listener: Listener) -> None:
        """The engine has said this."""
        self.prompt_tokens, self.completion_tokens = listener.prompt_tokens, listener.completion_tokens
        self.failure = listener.failure

    def record(self, status: int, code: str | None, ttft_ms: float | None, total_ms: float) -> RequestRecord:
        """What is kept of it."""
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
    """ASGI middleware: gives each completion or chat an Exchange, and writes its record at the end."""

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
    """ASGI middleware: counts, before the door, what did not come through it."""

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
    """The one recorder of a replica."""
    queue, replica = log_queue(), f"{socket.gethostname()}-{os.getpid()}"
    log = RecordLog(Path(log_dir), replica, log_prompts, queue=queue, most_bytes=most_bytes) if log_dir else None
    metrics = Metrics()
    metrics.poll(LOG_LOST, lambda: [({}, queue.lost)])
    metrics.keep_told()
    return Recorder(metrics, log)


class _Watch:
    """Watches what is sent: its status, an error's code, when the first and the last of it left; and records it."""

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
            if self._complete or self._exchange.complete:  # before it leaves: whoever has read it may ask for it
                self.ended()
        await self._send(message)

    def gone(self) -> None:
        """The client went away, and the work for it was ended."""
        if not self._complete and not self._exchange.complete:
            self._status, self._code, self._complete = GONE, "client_gone", True

    def broke(self) -> None:
        """The app raised; whoever stands around it answers."""
        if not self._complete:
            self._status, self._code, self._complete = 500, "server_error", True

    def ended(self) -> None:
        """The answer has its end, or the app has returned without one: then it was for a client that is gone."""
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
