"""Ray Serve LLM, taught to serve adapters from a local registry. Read against ray 2.60.0.

The only file that touches `ray.llm._internal`. Ray's own adapter loader takes cloud URLs alone, its model listing asks
a bucket, and its ingress knows no key; each of these is replaced here, the rest is Ray's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from ray import serve
from ray.llm._internal.common.models import global_id_manager
from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig
from ray.llm._internal.serve.core.configs.openai_api_models import ModelCard, ModelList, OpenAIHTTPException
from ray.llm._internal.serve.core.ingress.ingress import DEFAULT_ENDPOINTS, OpenAiIngress, make_fastapi_ingress
from ray.llm._internal.serve.core.ingress.middleware import SetRequestIdMiddleware, add_exception_handling_middleware
from ray.llm._internal.serve.core.server.llm_server import LLMServer
from ray.llm._internal.serve.utils.lora_serve_utils import LoraModelLoader
from ray.serve import Application
from ray.serve.llm import LLMConfig, build_llm_deployment
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from raytune_ft.errors import RaytuneError
from raytune_ft.execution.loopback import keep_replica_on_loopback
from raytune_ft.serving.catalog import Catalog, UnknownModelError
from raytune_ft.serving.guard import Guard
from raytune_ft.serving.key_ring import check_exposure
from raytune_ft.serving.limits import check_request
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.settings import ServeArgs

_ROUTES = ("models", "model_data", "completions", "chat")
_log = logging.getLogger(__name__)


class RegistryLoader(LoraModelLoader):
    """Gives vLLM the registry's own directory of a version, after its manifest was verified."""

    def __init__(self, catalog: Catalog, **options: Any) -> None:
        super().__init__(**options)
        self._catalog = catalog

    async def load_model_from_config(self, lora_model_id: str, llm_config: LLMConfig) -> DiskMultiplexConfig:
        path = await asyncio.to_thread(self._catalog.load_path, lora_model_id)
        return DiskMultiplexConfig(
            model_id=lora_model_id,
            max_total_tokens=None,
            local_path=str(path),
            lora_assigned_int_id=global_id_manager.next(),
        )


class RegistryServer(LLMServer):
    """The replica that holds the engine."""

    async def __init__(self, llm_config: LLMConfig, *, catalog: Catalog) -> None:  # type: ignore[misc]  # Serve awaits it
        keep_replica_on_loopback()
        self._catalog = catalog
        await super().__init__(llm_config)

    def _init_multiplex_loader(self, model_downloader_cls: Any = None) -> None:
        super()._init_multiplex_loader(cast(Any, partial(RegistryLoader, self._catalog)))


class RegistryIngress(OpenAiIngress):
    """The replica that speaks OpenAI's protocol: finds the version that a model id means, and asks the engine."""

    def __init__(self, *, catalog: Catalog, args: ServeArgs, **options: Any) -> None:
        keep_replica_on_loopback()
        super().__init__(**options)
        self._catalog, self._args = catalog, args
        check_exposure(args)  # a replica without the key must not start

    async def _get_response(
        self, *, body: Any, call_method: str, raw_request: Request | None = None
    ) -> AsyncGenerator[Any, None]:
        check_request(body, self._args.limits, self._args.max_model_len)
        model = await asyncio.to_thread(self._catalog.concrete, body.model or self._catalog.base)
        # vLLM knows each version under its own id, so a moved alias can't meet another version's prefix cache.
        body = body.model_copy(update={"model": model})
        async for response in super()._get_response(body=body, call_method=call_method, raw_request=raw_request):
            yield response

    async def models(self) -> ModelList:
        """Every model that would be answered now."""
        listed = await asyncio.to_thread(self._catalog.listed)
        return ModelList(data=[_card(each.id, each.metadata) for each in listed])

    async def model_data(self, model: str) -> ModelCard:
        """One of them."""
        for card in (await self.models()).data:
            if card.id == model:
                return card
        raise UnknownModelError(f"the model {model[:200]!a} does not exist")


def _card(model: str, metadata: dict[str, Any]) -> ModelCard:
    return ModelCard(id=model, object="model", owned_by="raytune-ft", permission=[], metadata=metadata)


def _respond(_: Request, error: Exception) -> JSONResponse:
    """Any error that a handler knows, in OpenAI's shape."""
    match error:
        case RequestError():
            shown = error
        case UnknownModelError():
            shown = RequestError(404, str(error), "model_not_found", "model")
        case RaytuneError():
            _log.error("a request failed: %s", error)
            shown = RequestError(500, "the model could not be loaded; the endpoint's log says why", "model_not_loaded")
        case RequestValidationError():
            first = error.errors()[0] if error.errors() else {"msg": "invalid request", "loc": ()}
            place = ".".join(str(part) for part in first["loc"] if part != "body")
            shown = RequestError(400, f"{place}: {first['msg']}".removeprefix(": "), "invalid_value", place or None)
        case HTTPException():
            shown = RequestError(
                error.status_code, str(error.detail), "not_found" if error.status_code == 404 else "error"
            )
        case OpenAIHTTPException():
            shown = RequestError(int(error.status_code), str(error.message), str(error.type))
        case _:
            raise error
    return JSONResponse(shown.body(), status_code=shown.status)


def _web_app(args: ServeArgs) -> FastAPI:
    """Ray's web app without its open CORS, its docs and its metrics; with the guard outermost."""
    app = FastAPI(openapi_url=None)
    add_exception_handling_middleware(app)
    for kind in (RaytuneError, RequestValidationError, HTTPException, OpenAIHTTPException):
        app.add_exception_handler(kind, _respond)
    app.add_middleware(SetRequestIdMiddleware)
    app.add_middleware(Guard, args=args)
    return app


def bind(args: ServeArgs, catalog: Catalog, config: LLMConfig) -> Application:
    """The Serve application: one ingress before one engine deployment."""
    engine = build_llm_deployment(config, deployment_cls=cast(Any, RegistryServer), bind_kwargs={"catalog": catalog})
    ingress = make_fastapi_ingress(
        RegistryIngress, endpoint_map={name: DEFAULT_ENDPOINTS[name] for name in _ROUTES}, app=_web_app(args)
    )
    options = RegistryIngress.get_deployment_options([config])
    options["ray_actor_options"] = {"num_cpus": 0}  # else it waits for ever where the engine took the last core
    deployment: Any = serve.deployment(ingress, **options)
    application: Application = deployment.bind(
        catalog=catalog,
        args=args,
        llm_deployments={catalog.base: engine},
        model_cards={catalog.base: _card(catalog.base, {})},
    )
    return application
