"""Which version answers a request, and which is asked besides; decided once, before the engine sees it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.registry.traffic import CHAMPION, Traffic
from raytune_ft.serving.models.catalog import Catalog, Named, UnknownModelError
from raytune_ft.serving.models.champions import Champions
from raytune_ft.serving.openai_errors import RequestError


@dataclass(frozen=True)
class Route:
    """Where one request goes."""

    model: str
    """Concrete id that answers."""
    alias: str | None = None
    """Alias that led there."""
    shadow: str | None = None
    """Concrete id that is asked besides, out of the client's sight."""
    load: str | None = None
    """Concrete id of a champion that has to be loaded before it can answer; this one answers meanwhile."""


class Router:
    """Splits the requests to an adapter's plain name as its traffic rule says.

    Args:
        catalog: What is served.
        draw: Gives a number in [0, 1) for each request.
        champions: Who answers for a champion that can't.
    """

    def __init__(
        self, catalog: Catalog, draw: Callable[[], float] = random.random, champions: Champions | None = None
    ) -> None:
        self._catalog, self._draw = catalog, draw
        self._champions = champions or Champions(catalog)

    def route(self, model: str, user: str | None = None) -> Route:
        """The route of one request.

        Args:
            model: Id as sent.
            user: Who asks, for rules that keep a user with one version.

        Raises:
            UnknownModelError: There is no such model here.
            RequestError: 503, the champion can't be served, and no version of before either.
        """
        named = self._catalog.split(model)
        if named is None:
            return Route(self._catalog.base)
        adapter, wanted = named
        if wanted not in ("", CHAMPION):
            found = self._catalog.find(adapter, wanted)
            return Route(found.id, found.alias)
        rule = self._rule(adapter) if not wanted else None
        if rule is None:
            return self._champion(adapter, wanted)
        draw = self._draw()
        # A challenger that can't be served turns nobody away.
        drawn = rule.alias(adapter, user, draw)
        challenger = self._servable(adapter, drawn) if drawn != CHAMPION else None
        answering = Route(challenger.id, challenger.alias) if challenger else self._champion(adapter, wanted)
        besides = rule.besides(adapter, user, draw)
        shadow = self._servable(adapter, besides) if besides else None
        return replace(answering, shadow=shadow.id if shadow and shadow.id != answering.model else None)

    def _champion(self, adapter: str, wanted: str) -> Route:
        standing = self._champions.standing(adapter)
        if standing is None or (standing.answering is None and self._catalog.foreign(adapter, standing.champion)):
            return Route(self._catalog.find(adapter, wanted).id, CHAMPION)  # which says what is wrong
        champion = self._catalog.id_of(adapter, standing.champion or CHAMPION)
        if standing.answering is None:
            if self._champions.has_failed(champion):
                return Route(champion, CHAMPION)  # the engine says what is wrong
            told = f"the model {champion} can't be served here now, and no version of before either: {standing.reason}"
            raise RequestError(503, told, "model_not_served", "model")
        answering = self._catalog.id_of(adapter, standing.answering)
        return Route(answering, CHAMPION, load=champion if standing.loading else None)

    def _rule(self, adapter: str) -> Traffic | None:
        try:
            return self._catalog.view.traffic(adapter)
        except (InputError, IntegrityError):
            return None  # a broken rule is logged where it is read, and the champion answers

    def _servable(self, adapter: str, alias: str) -> Named | None:
        try:
            found = self._catalog.find(adapter, alias)
        except UnknownModelError:
            return None
        return None if self._champions.has_failed(found.id) else found
