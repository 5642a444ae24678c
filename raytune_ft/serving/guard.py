"""The door of the endpoint: who may come in, and how much may be carried. Pure ASGI, before any parsing."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.settings import API_KEY_VARIABLE, is_loopback, read_api_key

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware: 401 without the key, 413 above the limit of the body.

    The key is read where the app runs, from its environment or file, so that it never stands in Serve's arguments.
    Where no key is set, only clients on the same machine are answered.
    """

    def __init__(self, app: App, *, max_body_bytes: int, api_key_file: str | None = None) -> None:
        self._app, self._max_body_bytes = app, max_body_bytes
        key = read_api_key(api_key_file)
        self._expected = None if key is None else f"Bearer {key}".encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                return  # nothing here speaks it, and it would pass without the key
            await self._app(scope, receive, send)
            return
        try:
            self._check_client(scope)
            body = await self._read(scope, receive)
        except RequestError as error:
            await refuse(error, send)
            return
        await self._app(scope, _replay(body, receive), send)

    def _check_client(self, scope: Message) -> None:
        given = _header(scope, b"authorization")
        if self._expected is not None:
            if given is None or not hmac.compare_digest(given, self._expected):
                raise RequestError(401, "Incorrect API key provided.", "invalid_api_key")
            return
        client = scope.get("client")
        if client is None or not is_loopback(str(client[0])):
            raise RequestError(
                401, f"This endpoint has no API key; set {API_KEY_VARIABLE} to reach it from elsewhere.", "no_api_key"
            )

    async def _read(self, scope: Message, receive: Receive) -> bytes:
        """The whole body, or 413 as soon as it is known to be too long."""
        too_large = RequestError(413, f"The body is above {self._max_body_bytes} bytes.", "request_too_large")
        length = _header(scope, b"content-length")
        if length is not None and (not length.isdigit() or int(length) > self._max_body_bytes):
            raise too_large
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return bytes(body)
            body += message.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise too_large
            if not message.get("more_body", False):
                return bytes(body)


def _header(scope: Message, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key.lower() == name), None)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()  # the client's disconnect
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def refuse(error: RequestError, send: Send) -> None:
    """Answers with the error, as JSON."""
    content = json.dumps(error.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
