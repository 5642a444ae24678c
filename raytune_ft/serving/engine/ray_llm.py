"""Ray Serve LLM's ingress, extended to serve the versions of a registry. Read against ray 2.60.0.

Only this file and `ray_engine` touch `ray.llm._internal`. Ray's ingress lists models from a cloud bucket, and has no
API keys, traffic rules or request records; these parts are replaced here, the rest is Ray's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import Request
from ray import serve
from ray.llm._internal.serve.core.configs.openai_api_models import ModelCard
from ray.llm._internal.serve.core.ingress.utils import _sanitize_chat_completion_request
from ray.llm._internal.serve.core.protocol import RawRequestInfo
from ray.serve import Application
from ray.serve._private.http_util import session_id_from_headers
from ray.serve.llm import LLMConfig
from ray.serve.llm.ingress import OpenAiIngress, make_fastapi_ingress
from ray.serve.llm.openai_api_models import ChatCompletionRequest, CompletionRequest
from starlette.responses import JSONResponse, Response, StreamingResponse

from raytune_ft.execution.local_ray.loopback import keep_replica_on_loopback
from raytune_ft.serving.engine.bodies import for_engine, shows_usage, user_of, words_of
from raytune_ft.serving.engine.front_door import listen_again
from raytune_ft.serving.engine.health import Health
from raytune_ft.serving.engine.ray_engine import bind_engine
from raytune_ft.serving.engine.shadow import Shadow, ShadowJob
from raytune_ft.serving.failures import EngineGoneError, as_request_error, is_engine_gone, unavailable
from raytune_ft.serving.gateway.guard import ADMITTED, EXCHANGE
from raytune_ft.serving.gateway.key_ring import check_exposure
from raytune_ft.serving.gateway.limits import check_request
from raytune_ft.serving.gateway.measure import Exchange, recorder_of
from raytune_ft.serving.gateway.web import web_app
from raytune_ft.serving.models.catalog import Catalog, UnknownModelError
from raytune_ft.serving.models.listed import ListedModel
from raytune_ft.serving.models.routing import Route
from raytune_ft.serving.models.served_versions import ServedVersions
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.records.exception_lines import keep_texts_out_of_logs
from raytune_ft.serving.records.listener import DONE, Listener
from raytune_ft.serving.records.log_queue import log_queue
from raytune_ft.serving.records.records import utc_now
from raytune_ft.serving.settings import ServeArgs

_ROUTES: dict[str, Any] = {
    "models": lambda app: app.get("/v1/models"),
    "model_data": lambda app: app.get("/v1/models/{model:path}"),
    "completions": lambda app: app.post("/v1/completions"),
    "chat": lambda app: app.post("/v1/chat/completions"),
    "health": lambda app: app.get("/health"),
}
_BATCH_PAUSE_S = 0.05
_LAST_LINES_S = 2.0  # bounds the last flush of the logs, so that a disk that hangs does not hold up the shutdown
_FIRST_ANSWER_S = 600.0  # bounds the wait for an engine that has to start first
_WITH_USAGE: Any = CompletionRequest(prompt="-", stream=True, stream_options={"include_usage": True}).stream_options
_log = logging.getLogger(__name__)
Body = CompletionRequest | ChatCompletionRequest


class RegistryIngress(OpenAiIngress):
    """The replica that speaks OpenAI's protocol: it finds the version that a model id means, and asks its engine."""

    def __init__(self, *, catalog: Catalog, args: ServeArgs, **options: Any) -> None:
        keep_replica_on_loopback()
        listen_again()
        super().__init__(**options)
        check_exposure(args)  # a replica that lacks the API key must not start
        self._catalog, self._args, self._created = catalog, args, int(time.time())
        self._versions = ServedVersions(catalog, self._load)
        self._health = {model: Health(partial(self._probe, model)) for model in catalog.engines}
        recorder = recorder_of(args.log_dir, args.log_prompts, args.max_log_bytes)
        self._versions.export(recorder.metrics)
        self._shadow = Shadow(recorder)
        keep_texts_out_of_logs()

    def __del__(self) -> None:
        """Writes the last log lines; Serve calls it on a drained replica before it kills the process."""
        log_queue().flush(_LAST_LINES_S)

    async def completions(self, body: CompletionRequest, request: Request) -> Response:  # type: ignore[override]
        """Answers `POST /v1/completions`."""
        return await self._answer(body, request)

    async def chat(self, body: ChatCompletionRequest, request: Request) -> Response:  # type: ignore[override]
        """Answers `POST /v1/chat/completions`."""
        try:
            sane: Any = _sanitize_chat_completion_request(body)
        except ValueError as error:
            raise RequestError(400, f"messages: {error}", "invalid_value", "messages") from error
        return await self._answer(sane, request)

    async def models(self) -> Response:  # type: ignore[override]  # with facts that Ray's card has no place for
        """Answers `GET /v1/models` with every model id that can be asked now."""
        listed = await self._versions.listed()
        return JSONResponse({"object": "list", "data": [self._shown(each) for each in listed]})

    async def model_data(self, model: str) -> Response:  # type: ignore[override]
        """Answers `GET /v1/models/{model}`."""
        for each in await self._versions.listed():
            if each.id == model:
                return JSONResponse(self._shown(each))
        raise UnknownModelError(f"the model {model[:200]!a} does not exist")

    async def health(self, request: Request) -> Response:
        """Answers `GET /health`: 200 if each engine can answer, else 503; only key holders see the details."""
        well = all(await asyncio.gather(*(health.answers() for health in self._health.values())))
        detail = self._versions.detail() if request.scope.get(ADMITTED) else {}
        return JSONResponse({"status": "ok" if well else "unavailable", **detail}, 200 if well else 503)

    async def _answer(self, body: Body, request: Request) -> Response:
        exchange: Exchange = request.scope[EXCHANGE]
        exchange.asked, exchange.stream = body.model or self._catalog.base, bool(body.stream)
        check_request(body, self._args.limits, self._args.max_model_len)
        user = user_of(body) or exchange.key
        route = await self._versions.route(exchange.asked, user)
        while True:
            try:
                first, answers = await self._begin(body, request, exchange, route)
                break
            except Exception as error:
                again = self._versions.broke(route, error) and await self._versions.route(exchange.asked, user)
                if not again or again.model == route.model:
                    raise self._failure(error, self._health_of(route.model)) from error
                route = again  # another version answers, so that the client does not see that the new one can't load
        self._health_of(route.model).heard()
        self._versions.heard(route)
        words = exchange.recorder.keeps_words or route.shadow is not None
        listener = Listener(words=words, show_usage=shows_usage(body))
        if refusal := _refusal(first[0] if isinstance(first, list) else first):
            raise refusal
        if not body.stream:
            content = first.model_dump()
            listener.whole(content)
            self._ended(exchange, body, route, listener)
            return JSONResponse(content)
        streamed = self._stream(first, answers, exchange, body, route, listener)
        return StreamingResponse(streamed, media_type="text/event-stream")

    async def _begin(self, body: Body, request: Request, exchange: Exchange, route: Route) -> tuple[Any, Any]:
        """Sends the request to the engine; returns the first item of its response, and the iterator over the rest."""
        exchange.routed(route)
        if self._health_of(route.model).down:
            raise unavailable()
        answers = self._ask(for_engine(body, route.model, exchange.request, _WITH_USAGE), request)
        try:
            async with asyncio.timeout(_FIRST_ANSWER_S):
                return await anext(answers), answers
        except Exception:
            answers.cancel()
            raise

    async def _stream(
        self, first: list[str], answers: Any, exchange: Exchange, body: Body, route: Route, listener: Listener
    ) -> AsyncGenerator[str, None]:
        ended = False

        def passed_on(chunks: list[str]) -> str:
            nonlocal ended
            text = "".join(map(listener.chunk, chunks))
            if listener.done and not ended:  # noted before the end is sent, since the client then disconnects
                ended = exchange.complete = True
                self._ended(exchange, body, route, listener)
            return text

        try:
            if text := passed_on(first):
                yield text
            async for chunks in answers:
                if text := passed_on(chunks):
                    yield text
            if not ended:  # the stream stopped without an end or an error: it must not pass for complete
                raise EngineGoneError
        except Exception as error:  # status 200 was sent already, so that the stream itself has to report the error
            ended = True
            exchange.failure = self._failure(error, self._health_of(route.model))
            yield f"data: {json.dumps(exchange.failure.body())}\n\n{DONE}"
        finally:
            if not ended:
                answers.cancel()  # the client disconnected

    def _ask(self, body: Body, request: Request | None = None) -> Any:
        """Asks the engine; each version has an id of its own in vLLM, so that versions share no prefix cache."""
        handle = self._get_configured_serve_handle(str(body.model))
        if request is not None and (session := session_id_from_headers(dict(request.headers))):
            handle = handle.options(session_id=session)
        method = handle.chat if isinstance(body, ChatCompletionRequest) else handle.completions
        return method.remote(body, RawRequestInfo())  # the client's headers, which hold its key, are not passed on

    def _ended(self, exchange: Exchange, body: Body, route: Route, listener: Listener) -> None:
        """Records a finished answer, and queues the shadow request to the challenger where the route has one."""
        exchange.heard(listener)
        health = self._health_of(route.model)
        if exchange.failure is not None:
            if exchange.failure.status >= 500:
                health.suspect()  # vLLM reports the death of its engine as an error message within the stream
            return
        health.heard()
        recorder = exchange.recorder
        if recorder.log is not None and recorder.keeps_words:
            said = (listener.texts or [""])[0]
            recorder.log.write_prompt(exchange.request, exchange.key, route.model, words_of(body), said)
        if route.shadow is None:
            return
        record = replace(
            exchange.record(200, None, None, 0.0),
            time=utc_now(),
            answered=route.shadow,
            alias="challenger",
            stream=False,
            shadow=True,
            prompt_tokens=None,
            completion_tokens=None,
        )
        whole = body.model_copy(update={"stream": False})
        repeated = for_engine(whole, route.shadow, f"{exchange.request}-shadow", None)
        self._shadow.offer(ShadowJob(record, lambda: self._ask_whole(repeated), listener.answers))

    async def _ask_whole(self, body: Body) -> Listener:
        listener = Listener(words=True)
        try:
            answer = await anext(self._ask(body))
        except Exception as error:
            raise self._failure(error, self._health_of(str(body.model))) from error
        if refusal := _refusal(answer):
            raise refusal
        listener.whole(answer.model_dump())
        return listener

    def _failure(self, error: Exception, health: Health) -> RequestError:
        if is_engine_gone(error):
            health.suspect()
        return as_request_error(error)

    def _health_of(self, model: str) -> Health:
        """Returns the health of the engine that answers for a concrete model id."""
        return self._health.get(model) or self._health[self._catalog.base]

    async def _probe(self, model: str) -> bool:
        return bool(await self._default_serve_handles[model].can_answer.remote())

    async def _load(self, model: str) -> None:
        handles = self._default_serve_handles
        own = handles.get(model)  # set for a merged version, whose engine has no adapter to load
        answer = own.can_answer if own else handles[self._catalog.base].options(multiplexed_model_id=model).load
        await answer.remote()

    def _get_configured_serve_handle(self, model_id: str) -> Any:
        # Ray would take the part after the colon of a merged version's id for an adapter of the base's engine.
        if model_id in self._default_serve_handles and model_id not in self._configured_serve_handles:
            self._configured_serve_handles[model_id] = self._default_serve_handles[model_id].options(stream=True)
        return super()._get_configured_serve_handle(model_id)

    def _shown(self, model: ListedModel) -> dict[str, Any]:
        shown = {"id": model.id, "object": "model", "created": self._created, "owned_by": "raytune-ft"}
        return {**shown, "metadata": model.metadata}


def _refusal(answer: Any) -> RequestError | None:
    """Returns the engine's error if the answer is one; its codes are HTTP status codes.

    It is recognised by its attribute, not its type: engines return Ray's internal `ErrorResponse`, which is a parent
    class of the public one.
    """
    error = getattr(answer, "error", None)
    if error is None:
        return None
    return RequestError(int(error.code), str(error.message), str(error.type), error.param)


def bind(args: ServeArgs, catalog: Catalog, configs: Sequence[LLMConfig]) -> Application:
    """Returns the Serve application: an ingress, and one deployment for each engine in `configs`."""
    engines = {config.model_id: bind_engine(config, catalog) for config in configs}
    ingress = make_fastapi_ingress(RegistryIngress, endpoint_map=_ROUTES, app=web_app(args))
    options = RegistryIngress.get_deployment_options(list(configs))
    options["ray_actor_options"] = {"num_cpus": 0}  # otherwise it would wait forever if the engine took the last core
    deployment: Any = serve.deployment(ingress, **options)
    cards = {
        model: ModelCard(id=model, object="model", owned_by="raytune-ft", permission=[], metadata={})
        for model in engines
    }
    application: Application = deployment.bind(
        catalog=catalog,
        args=args,
        llm_deployments=engines,
        model_cards=cards,
    )
    return application
