"""Checks each request before it is parsed: the API key, the route, the body's size and the concurrency. Pure ASGI."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from raytune_ft.serving.gateway.feedback import FeedbackDesk
from raytune_ft.serving.gateway.forwarded import sign_of_elsewhere
from raytune_ft.serving.gateway.key_ring import KeyRing
from raytune_ft.serving.gateway.limits import Places
from raytune_ft.serving.models.follow import Follower
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.records.exception_lines import AnswerBrokeOffError, told
from raytune_ft.serving.records.log_queue import log_queue
from raytune_ft.serving.records.records import RecordLog, RequestRecord, utc_now
from raytune_ft.serving.settings import API_KEY_VARIABLE, ServeArgs, is_loopback

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

KEY_NAME = "raytune_ft.key"
"""Key of the ASGI scope under which the name of the request's API key is kept."""
EXCHANGE = "raytune_ft.exchange"
"""Key of the ASGI scope for what is known of the response so far, an `Ending`."""
ADMITTED = "raytune_ft.admitted"
"""Key of the ASGI scope of `/health` that is set when the caller may use the other routes too."""
HEALTH = "/health"
KEYS_EVERY_S = 1.0
"""Seconds between two checks whether the key file has changed."""
_ROUTES = {
    "/v1/models": ("GET", "models"),
    "/v1/completions": ("POST", "completions"),
    "/v1/chat/completions": ("POST", "chat"),
    "/v1/feedback": ("POST", "feedback"),
}
_log = logging.getLogger(__name__)
_LENGTH_DIGITS = 19  # as many as 2**63 - 1 has; Python refuses to parse a number of thousands of digits
_ID = re.compile(rb"[!-~]{1,128}")
_GONE = 499  # nginx's status for a client that disconnected; it appears only in the log


class Ending(Protocol):
    """How a response ended."""

    complete: bool
    """The whole stream was sent, so that a client that disconnects now has read it all."""
    failure: RequestError | None
    """The error that happened after the response had begun."""


class Guard:
    """ASGI middleware that refuses requests before the app sees them, and records each refusal.

    It answers 401 without a valid key, 404 for unknown routes, 429 for too many requests at once, 413 for too large a
    body and 408 for too slow a one. Keys are read where the app runs, so that Serve's arguments hold none. Where no key
    is set, only programs on the same machine are answered. `/health` alone needs no key, but tells key holders more.
    """

    def __init__(self, app: App, *, args: ServeArgs) -> None:
        self._app, self._limits, self._keys = app, args.limits, KeyRing(args)
        self._places = Places(args.limits.max_concurrent_per_key)
        self._records, self._desk = None, None
        if args.log_dir is not None:
            directory, replica, most = Path(args.log_dir), f"{socket.gethostname()}-{os.getpid()}", args.max_log_bytes
            # They have files of their own, so that a flood of refusals can't displace the records of answers.
            self._records = RecordLog(
                directory, replica, prompts=False, queue=log_queue(), kind="refused", most_bytes=most
            )
            self._desk = FeedbackDesk(directory, replica, most_bytes=most)
        self._followed_keys = Follower(self._keys.refresh, KEYS_EVERY_S, "the keys") if args.api_keys_file else None
        if self._followed_keys is not None:
            self._followed_keys.start()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return  # no route uses websockets, and they would bypass the check of the key
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _path(scope) == HEALTH and scope["method"] == "GET":
            with suppress(RequestError):
                self._admit(scope)
                scope[ADMITTED] = True
            await self._app(scope, receive, send)
            return
        record = RequestRecord(utc_now(), request_id(scope), None, _find(_path(scope))[1], "")
        started = time.monotonic()
        with ExitStack() as place:
            try:
                scope[KEY_NAME] = key = self._admit(scope)
                record = replace(record, key=key)
                _check_route(scope)
                _check_id(scope)
                place.enter_context(self._places.take(key))
                body = await self._read(scope, receive)
                feedback = await self._take_feedback(body, key) if record.route == "feedback" else None
            except RequestError as error:
                total_ms = round((time.monotonic() - started) * 1000, 1)
                if self._records is not None:
                    self._records.write(replace(record, status=error.status, code=error.code, total_ms=total_ms))
                if error.status != _GONE:
                    await refuse(error, send)
                return
            if feedback is not None:
                await _answer(200, feedback, send)
            else:
                await self._ask(scope, _replay(body, receive), send, record)

    def _admit(self, scope: Message) -> str | None:
        """Checks the key and returns its name, or None where no key is needed."""
        if self._keys.wanted:
            scheme, _, token = (_header(scope, b"authorization") or b"").partition(b" ")
            name = self._keys.name_of(token)
            if name is None or scheme != b"Bearer":
                raise RequestError(401, "Incorrect API key provided.", "invalid_api_key")
            return name
        client = scope.get("client")
        local = client is not None and is_loopback(str(client[0]))
        sign = sign_of_elsewhere(scope) if local else "it comes from another machine"
        if sign is not None:
            told = (
                f"This endpoint has no API key; set {API_KEY_VARIABLE} to reach it from elsewhere. Refused as {sign}."
            )
            raise RequestError(401, told, "no_api_key")
        return None

    async def _read(self, scope: Message, receive: Receive) -> bytes:
        """Reads the whole body; raises 413 as soon as it is known to be too large, and 408 if it takes too long."""
        most, timeout_s = self._limits.max_body_bytes, self._limits.body_timeout_s
        too_large = RequestError(413, f"The body is above {most} bytes.", "request_too_large")
        length = _header(scope, b"content-length")
        if length is not None and len(length) > _LENGTH_DIGITS:
            raise RequestError(400, f"Content-Length has {len(length)} digits.", "invalid_value")
        if length is not None and (not length.isdigit() or int(length) > most):
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise RequestError(_GONE, "The client went away.", "client_gone")
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise RequestError(408, f"The body did not arrive within {timeout_s:g} s.", "request_timeout") from None

    async def _take_feedback(self, body: bytes, key: str | None) -> dict[str, Any]:
        if self._desk is None:
            raise RequestError(404, "This endpoint keeps no feedback; it was started without a log.", "not_found")
        return await self._desk.take(body, key)

    async def _ask(self, scope: Message, receive: Receive, send: Send, record: RequestRecord) -> None:
        """Passes the request to the app, notes a complete answer for feedback, and hides internal errors."""
        started = well = False

        async def watched(message: Message) -> None:
            nonlocal started, well
            started, well = True, well or message.get("status") == 200
            if well and self._desk and record.route in ("chat", "completions") and _is_whole(message, scope):
                self._desk.answered(record.request, record.key)  # before the end is sent: feedback may follow at once
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            _log.error("request %s failed: %s", record.request, told(error))
            if started:  # the client sees a cut answer; the error itself is replaced because servers log its text
                raise AnswerBrokeOffError(f"request {record.request}") from None
            await refuse(
                RequestError(500, "The request failed; the endpoint's log says where.", "internal_error"), send
            )


def request_id(scope: Message) -> str:
    """Returns the x-request-id that Ray's proxy gave the request, or that its client chose."""
    return (_header(scope, b"x-request-id") or b"").decode("ascii", "replace")[:128]


def _check_id(scope: Message) -> None:
    """Refuses an unusable x-request-id.

    Ray echoes the id to the client as it was sent, so a cleaned one in the log would not match the client's feedback.
    """
    if (given := _header(scope, b"x-request-id")) is not None and not _ID.fullmatch(given):
        raise RequestError(
            400, "x-request-id: must be 1 to 128 visible ASCII characters; or leave it out.", "invalid_value"
        )


def _path(scope: Message) -> str:
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _find(path: str) -> tuple[str, str]:
    """Returns the method and name of the route of a path; the method is "" for an unknown one."""
    return _ROUTES.get("/v1/models" if path.startswith("/v1/models/") else path, ("", "other"))


def _check_route(scope: Message) -> None:
    """Refuses every path and method that is not one of the endpoint's routes, even if the app would answer it."""
    path = _path(scope)
    method, _ = _find(path)
    if not method:
        raise RequestError(404, f"Unknown path {path[:80]!a}.", "not_found")
    if scope["method"] != method:
        raise RequestError(405, f"{path[:80]} is asked with {method}.", "method_not_allowed")


def _is_whole(message: Message, scope: Message) -> bool:
    """Tells whether this message completes a successful answer."""
    ending: Ending | None = scope.get(EXCHANGE)
    if message["type"] != "http.response.body" or (ending is not None and ending.failure is not None):
        return False
    return not message.get("more_body", False) or (ending is not None and ending.complete)


def _header(scope: Message, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key.lower() == name), None)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()  # the only message left is the client's disconnect
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def refuse(error: RequestError, send: Send) -> None:
    """Sends the error as the JSON response."""
    extra = {
        401: [(b"www-authenticate", b"Bearer")],
        408: [(b"connection", b"close")],  # otherwise the server waits for the rest of the body
        429: [(b"retry-after", b"1")],
    }
    await _answer(error.status, error.body(), send, extra.get(error.status, []))


async def _answer(status: int, value: Any, send: Send, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    content = json.dumps(value).encode()
    plain = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*plain, *(headers or [])]})
    await send({"type": "http.response.body", "body": content})
