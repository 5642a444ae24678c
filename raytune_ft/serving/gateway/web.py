"""The FastAPI app around the ingress: OpenAI-shaped errors, the guard, and the measurement on both sides of it."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from raytune_ft.errors import RaytuneError
from raytune_ft.serving.failures import respond
from raytune_ft.serving.gateway.guard import Guard
from raytune_ft.serving.gateway.measure import CountRefused, Measure
from raytune_ft.serving.settings import ServeArgs


def web_app(args: ServeArgs) -> FastAPI:
    """Returns an app without open CORS, docs or metrics routes, which measures inside the guard and counts outside."""
    app = FastAPI(openapi_url=None)
    for kind in (RaytuneError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, respond)
    app.add_middleware(Measure, args=args)
    app.add_middleware(Guard, args=args)
    app.add_middleware(CountRefused, args=args)
    return app
