"""Decides once for each request which version answers it, and which gets a shadow copy."""

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
    """The versions that one request is sent to."""

    model: str
    """Concrete id of the version that answers."""
    alias: str | None = None
    """The alias that was resolved to it, or None."""
    shadow: str | None = None
    """Concrete id of the version that gets a shadow copy, whose answer the client does not see."""
    load: str | None = None
    """Concrete id of a champion that must be loaded first; until then `model` answers in its place."""


class Router:
    """Splits the requests to an adapter's plain name as its traffic rule says.

    Args:
        catalog: The models that the endpoint serves.
        draw: Returns a random number in [0, 1) for each request.
        champions: Decides which version answers for a champion.
    """

    def __init__(
        self, catalog: Catalog, draw: Callable[[], float] = random.random, champions: Champions | None = None
    ) -> None:
        self._catalog, self._draw = catalog, draw
        self._champions = champions or Champions(catalog)

    def route(self, model: str, user: str | None = None) -> Route:
        """Returns the route of one request.

        Args:
            model: Model id as the client sent it.
            user: The end user, for rules that keep a user on one version.

        Raises:
            UnknownModelError: The endpoint does not serve the model.
            RequestError: 503, neither the champion nor an earlier version can be served.
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
        # If the challenger can't be served, the champion answers in its place.
        drawn = rule.alias(adapter, user, draw)
        challenger = self._servable(adapter, drawn) if drawn != CHAMPION else None
        answering = Route(challenger.id, challenger.alias) if challenger else self._champion(adapter, wanted)
        besides = rule.besides(adapter, user, draw)
        shadow = self._servable(adapter, besides) if besides else None
        return replace(answering, shadow=shadow.id if shadow and shadow.id != answering.model else None)

    def _champion(self, adapter: str, wanted: str) -> Route:
        standing = self._champions.standing(adapter)
        if standing is None or (standing.answering is None and self._catalog.foreign(adapter, standing.champion)):
            return Route(self._catalog.find(adapter, wanted).id, CHAMPION)  # `find` raises with the reason
        champion = self._catalog.id_of(adapter, standing.champion or CHAMPION)
        if standing.answering is None:
            if self._champions.has_failed(champion):
                return Route(champion, CHAMPION)  # the engine's error tells the reason
            told = f"the model {champion} can't be served here now, and no version of before either: {standing.reason}"
            raise RequestError(503, told, "model_not_served", "model")
        answering = self._catalog.id_of(adapter, standing.answering)
        return Route(answering, CHAMPION, load=champion if standing.loading else None)

    def _rule(self, adapter: str) -> Traffic | None:
        try:
            return self._catalog.view.traffic(adapter)
        except (InputError, IntegrityError):
            return None  # a broken rule was logged where it was read; the champion answers

    def _servable(self, adapter: str, alias: str) -> Named | None:
        try:
            found = self._catalog.find(adapter, alias)
        except UnknownModelError:
            return None
        return None if self._champions.has_failed(found.id) else found
