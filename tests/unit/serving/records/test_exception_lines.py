"""A prompt that an exception holds never comes into a program's log, whichever way the request fails."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import Request
from fastapi.responses import StreamingResponse
from ray.exceptions import RayTaskError

from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.serving.engine.health import Health
from raytune_ft.serving.engine.shadow import Shadow, ShadowJob
from raytune_ft.serving.failures import as_request_error
from raytune_ft.serving.gateway import measure
from raytune_ft.serving.gateway.measure import Recorder
from raytune_ft.serving.gateway.web import web_app
from raytune_ft.serving.records.listener import Listener
from raytune_ft.serving.records.records import RequestRecord
from raytune_ft.serving.settings import ServeArgs

CANARY = "my account number is 4711"
RECORD = RequestRecord("t", "r-1", None, "chat", "base:movies", "base:movies@2", "challenger", shadow=True)


class Ignoring:
    """Stands for the metrics."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    metrics: Any = Ignoring()
    recorder = Recorder(metrics)
    monkeypatch.setattr(measure, "recorder_of", lambda *_: recorder)
    return recorder


def broken(kind: type[Exception] = ValueError) -> Exception:
    """An exception with a place, a cause and a prompt in both texts."""
    try:
        try:
            raise KeyError(CANARY)
        except KeyError as cause:
            raise kind(f"no tokens for {CANARY!r}") from cause
    except Exception as error:
        return error


def from_another_process(cause: Exception) -> Exception:
    """As Ray hands it on: of both classes, with the other process's traceback as its text."""
    text = f'Traceback ...\n  File "/there/vllm/engine.py", line 7, in generate\n    go()\n{cause!r}: {CANARY}'
    found: Exception = RayTaskError("chat", text, cause).as_instanceof_cause()
    return found


@pytest.mark.parametrize("error", [broken(), broken(RuntimeError), from_another_process(broken())])
def test_a_failed_request_leaves_type_and_place(error: Exception, logged: Callable[[], str]) -> None:
    assert as_request_error(error).status == 500
    assert CANARY not in logged()
    assert "Error" in logged()


def test_the_place_is_that_of_each_cause(logged: Callable[[], str]) -> None:
    as_request_error(broken())
    assert logged().count("test_exception_lines.py:") == 2
    assert "ValueError in " in logged() and ", from KeyError in " in logged()


@pytest.mark.parametrize("wrap", [lambda error: error, from_another_process])
def test_an_error_of_this_package_keeps_its_words_and_no_others(
    wrap: Callable[[Exception], Exception], logged: Callable[[], str]
) -> None:
    as_request_error(wrap(IntegrityError("movies@3: sha256 differs")))
    assert "a request failed: movies@3: sha256 differs" in logged()
    assert CANARY not in logged()


def test_a_shadow_that_fails_leaves_type_and_place(recorder: Recorder, logged: Callable[[], str]) -> None:
    async def fail() -> Listener:
        raise broken()

    async def run() -> None:
        assert Shadow(recorder).offer(ShadowJob(RECORD, fail, []))
        await asyncio.sleep(0.01)

    asyncio.run(run())
    assert CANARY not in logged()
    assert "a shadow request failed: ValueError in " in logged()


@pytest.mark.parametrize("error", [broken(), from_another_process(broken())])
def test_a_probe_that_fails_leaves_type_and_place(error: Exception, logged: Callable[[], str]) -> None:
    async def probe() -> bool:
        raise error

    assert not asyncio.run(Health(probe).answers())
    assert CANARY not in logged()
    assert "the engine can't answer: " in logged() and "ValueError" in logged()


async def _cut() -> AsyncIterator[str]:
    yield "begun"
    raise broken()


@pytest.mark.parametrize(("path", "raised"), [("/v1/completions", None), ("/v1/chat/completions", "AnswerBrokeOff")])
def test_what_leaves_the_app_holds_no_text(
    path: str, raised: str | None, recorder: Recorder, logged: Callable[[], str]
) -> None:
    """uvicorn, Serve's replica and its proxy log whole what an app raises."""
    app = web_app(ServeArgs(base_model="x"))

    @app.post("/v1/completions")
    async def fails_at_once(request: Request) -> None:
        raise broken()

    @app.post("/v1/chat/completions")
    async def fails_half_way(request: Request) -> StreamingResponse:
        return StreamingResponse(_cut())

    bodies = [b"{}"]

    async def receive() -> dict[str, Any]:
        if not bodies:
            await asyncio.Event().wait()  # the client stays
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

    async def send(message: Any) -> None: ...

    scope = {"type": "http", "client": ("127.0.0.1", 1), "method": "POST", "path": path, "headers": []}
    scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 8000)}
    error: BaseException | None = None
    try:
        asyncio.run(app({**scope, "headers": [(b"host", b"127.0.0.1")]}, receive, send))
    except Exception as caught:
        error = caught
    assert (type(error).__name__ if error else "None").startswith(raised or "None")
    while error is not None:
        assert CANARY not in str(error)
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__
    assert CANARY not in logged()
    assert "failed: ValueError in " in logged()


def test_in_a_replica_no_library_logs_a_text_either(in_a_replica: None, logged: Callable[[], str]) -> None:
    log = logging.getLogger("uvicorn.error")
    try:
        raise broken()
    except ValueError as error:
        log.exception("Exception in ASGI application")
        log.error("Exception in ASGI application", exc_info=error)
        log.warning("Request failed: %s", error)
        log.warning("Request failed: %r", from_another_process(error))
    assert CANARY not in logged()
    assert logged().count("ValueError in ") >= 3
    assert "Request failed: 'RayTaskError(ValueError) in /there/vllm/engine.py:7" in logged()
    assert "def broken" not in logged() and "raise kind(" in logged(), "the traceback's lines of code stay"


def test_in_a_replica_a_forgotten_task_s_text_stays_out(in_a_replica: None, logged: Callable[[], str]) -> None:
    async def fail() -> None:
        raise broken()

    async def run() -> None:
        task = asyncio.get_running_loop().create_task(fail())
        await asyncio.sleep(0)
        del task
        gc.collect()

    asyncio.run(run())
    gc.collect()
    assert "Task exception was never retrieved" in logged()
    assert CANARY not in logged()


def test_in_a_replica_a_text_in_a_line_is_replaced_while_its_exception_is_handled(
    in_a_replica: None, logged: Callable[[], str]
) -> None:
    log = logging.getLogger("x")
    try:
        raise broken()
    except ValueError as error:
        log.error(f"failed {error}")
        log.exception(f"failed {error.__cause__} {error.__cause__.args[0] if error.__cause__ else None}")
        log.error("failed %s", [f"{error!r}"])
        log.error("does not fit %d %d", error)
    assert CANARY not in logged()
    assert "failed ValueError" in logged() and "failed KeyError KeyError" in logged() and "does not fit" in logged()


def test_in_a_replica_what_the_system_and_this_package_say_is_still_told(
    in_a_replica: None, logged: Callable[[], str]
) -> None:
    logging.getLogger("x").warning("lost: %s, %s", OSError(28, "No space left on device"), RaytuneError("run it again"))
    assert "No space left on device, run it again" in logged()
    try:
        raise IntegrityError("movies@3: not whole JSON (Expecting value: line 1)") from ValueError(
            "Expecting value: line 1"
        )
    except IntegrityError as error:
        as_request_error(error)
    assert "a request failed: movies@3: not whole JSON (Expecting value: line 1)" in logged()
