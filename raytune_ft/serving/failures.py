"""Turns failures into OpenAI-shaped error responses: the status says whether to retry, and no internals are shown."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from raytune_ft.errors import RaytuneError
from raytune_ft.serving.models.catalog import UnknownModelError
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.records.exception_lines import told

_log = logging.getLogger(__name__)
_RETRY_AFTER_S = "5"
# By name: they come from other processes as Ray's errors with the cause's class mixed in, and vLLM need not be here.
_ENGINE_GONE = {
    "RayActorError", "ActorDiedError", "ActorUnavailableError", "WorkerCrashedError", "EngineDeadError",
    "DeploymentUnavailableError", "EngineGenerateError", "NodeDiedError", "ObjectLostError", "OwnerDiedError",
    "EngineGoneError", "AioRpcError",  # the last one comes from gRPC between replicas
}  # fmt: skip
_OVERLOADED = {"BackPressureError"}


class EngineGoneError(Exception):
    """The engine died in the middle of an answer."""


def is_engine_gone(error: BaseException) -> bool:
    """Tells whether the replica or its engine died while it handled the request."""
    return bool(_names(error) & _ENGINE_GONE)


def as_request_error(error: Exception) -> RequestError:
    """Returns the error to send to the client; details that are not for clients go to the log."""
    match error:
        case RequestError():
            return error
        case UnknownModelError():
            return RequestError(404, str(error), "model_not_found", "model")
        case RaytuneError():
            _log.error("a request failed: %s", told(error))
            return RequestError(500, "the model could not be loaded; the endpoint's log says why", "model_not_loaded")
        case RequestValidationError():
            first: Mapping[str, object] = error.errors()[0] if error.errors() else {"msg": "invalid request"}
            loc = first.get("loc")
            place = ".".join(str(part) for part in loc if part != "body") if isinstance(loc, tuple) else ""
            return RequestError(400, f"{place}: {first['msg']}".removeprefix(": "), "invalid_value", place or None)
        case HTTPException():
            return RequestError(
                error.status_code, str(error.detail), "not_found" if error.status_code == 404 else "error"
            )
        case TimeoutError():
            return RequestError(503, "The answer took too long.", "timeout")
    if is_engine_gone(error):
        _log.error("the engine ended under a request: %s", type(error).__name__)
        return unavailable()
    if _names(error) & _OVERLOADED:
        return RequestError(503, "Too many requests wait already; try again shortly.", "overloaded")
    _log.error("a request failed: %s", told(error))
    return RequestError(500, "The server had an error while answering.", "server_error")


def unavailable() -> RequestError:
    """Returns the error for an engine that can't answer at present."""
    return RequestError(503, "The model is being started again; try again shortly.", "engine_unavailable")


async def respond(_: Request, error: Exception) -> JSONResponse:
    """Returns the error response of a request that failed before any of its response was sent."""
    shown = as_request_error(error)
    headers = {"retry-after": _RETRY_AFTER_S} if shown.status == 503 else None
    return JSONResponse(shown.body(), status_code=shown.status, headers=headers)


def _names(error: BaseException) -> set[str]:
    causes = (error, error.__cause__, getattr(error, "cause", None))
    return {kind.__name__ for cause in causes if isinstance(cause, BaseException) for kind in type(cause).__mro__}
