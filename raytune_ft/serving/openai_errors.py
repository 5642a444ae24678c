"""Errors in the shape that OpenAI's clients read: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from typing import Any

from raytune_ft.errors import RaytuneError

_TYPES = {401: "authentication_error", 429: "requests", 500: "server_error", 503: "server_error"}


class RequestError(RaytuneError):
    """An error that is sent to the client as the response."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        self.status, self.message, self.code, self.param = status, message, code, param
        super().__init__(status, message, code, param)

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, Any]:
        """Returns the response's JSON."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}
