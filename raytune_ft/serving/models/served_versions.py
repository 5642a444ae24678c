"""Routes an ingress's requests by the registry's last readable state, and only to versions that can be loaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from raytune_ft.registry.traffic import CHAMPION
from raytune_ft.serving import background
from raytune_ft.serving.failures import is_engine_gone
from raytune_ft.serving.models.catalog import Catalog, UnknownModelError
from raytune_ft.serving.models.champions import Champions, is_not_loaded
from raytune_ft.serving.models.followed_registry import follow
from raytune_ft.serving.models.listed import ListedModel
from raytune_ft.serving.models.routing import Route, Router
from raytune_ft.serving.records.metrics import CHAMPION_HELD_BACK, REGISTRY_AGE, Metrics, Sample

_LOAD_S = 120.0  # a load that takes longer counts as failed
_NOT_LOADED = "it could not be loaded; the endpoint's log says why"
_log = logging.getLogger(__name__)


class ServedVersions:
    """Routes requests, and loads a new champion in the background before it answers.

    Args:
        catalog: The models that the endpoint serves.
        load: Makes an engine load the version of a concrete id; raises if it can't.

    Raises:
        OSError: The registry can't be read at the start.
    """

    def __init__(self, catalog: Catalog, load: Callable[[str], Awaitable[object]]) -> None:
        self._load = load
        self._registry = follow(catalog.registry) if catalog.registry is not None else None
        self._catalog = replace(catalog, followed=self._registry)
        self._champions = Champions(self._catalog)
        self._router = Router(self._catalog, champions=self._champions)
        self._under_way: set[str] = set()

    async def route(self, model: str, user: str | None) -> Route:
        """Returns the route of one request; for an unknown model it waits for a fresh read of the registry.

        Args:
            model: Model id as the client sent it.
            user: The end user, for rules that keep a user on one version.

        Raises:
            UnknownModelError: The endpoint does not serve the model.
            RequestError: 503, no version can answer for the champion.
        """
        try:
            route = self._router.route(model, user)
        except UnknownModelError:
            if self._registry is None:
                raise
            await self._registry.anew()
            route = self._router.route(model, user)
        if route.load is not None:
            self._begin(route.load)
        return route

    async def listed(self) -> list[ListedModel]:
        """Returns every model id that can be asked now."""
        if self._registry is not None:
            await self._registry.anew()
        return self._catalog.listed(self._champions.answering)

    def heard(self, route: Route) -> None:
        """Notes that the engine has answered with the route's version, which is therefore loaded."""
        if route.model != self._catalog.base:
            self._champions.loaded(route.model)

    def broke(self, route: Route, error: Exception) -> bool:
        """Notes that a request failed; returns True if its version could not be loaded and another may answer."""
        if not is_not_loaded(error):
            return False
        self._failed(route.model, error)
        return route.alias is not None

    def detail(self) -> dict[str, Any]:
        """Returns the details of `/health`: the age of the registry's state, and the champions that do not answer."""
        held = [
            {
                "champion": self._catalog.id_of(each.adapter, each.champion or CHAMPION),
                "answering": self._catalog.id_of(each.adapter, each.answering) if each.answering else None,
                "reason": each.reason,
            }
            for each in self._champions.held_back()
        ]
        age_s = round(self._registry.age_s, 1) if self._registry is not None else None
        return {"registry_age_s": age_s, "held_back": held}

    def export(self, metrics: Metrics) -> None:
        """Exports the same details as metrics from now on; each export also logs new and ended outages."""

        def held_back() -> list[Sample]:
            self._champions.tell()
            return [({"model": each["champion"]}, 1.0) for each in self.detail()["held_back"]]

        metrics.poll(CHAMPION_HELD_BACK, held_back)
        if (registry := self._registry) is not None:
            metrics.poll(REGISTRY_AGE, lambda: [({}, registry.age_s)])

    def _begin(self, model: str) -> None:
        if model not in self._under_way:
            self._under_way.add(model)
            background.start(self._try(model))

    async def _try(self, model: str) -> None:
        """Loads a champion in the background, while requests go to the version before it."""
        try:
            async with asyncio.timeout(_LOAD_S):
                await self._load(model)
        except TimeoutError as error:
            self._failed(model, error)
        except Exception as error:
            if not is_engine_gone(error):
                self._failed(model, error)
        else:
            self._champions.loaded(model)
        finally:
            self._under_way.discard(model)

    def _failed(self, model: str, error: Exception) -> None:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        _log.error("%s was not loaded: %s", model, why)
        self._champions.failed(model, _NOT_LOADED)
        self._champions.tell()
