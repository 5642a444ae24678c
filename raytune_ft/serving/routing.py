"""Which version answers a request, and which is asked besides; decided once, before the engine sees it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.registry.traffic import CHAMPION, Traffic
from raytune_ft.serving.catalog import Catalog, Named, UnknownModelError


@dataclass(frozen=True)
class Route:
    """Where one request goes."""

    model: str
    """Concrete id that answers."""
    alias: str | None = None
    """Alias that led there."""
    shadow: str | None = None
    """Concrete id that is asked besides, out of the client's sight."""


class Router:
    """Splits the requests to an adapter's plain name as its traffic rule says.

    Args:
        catalog: What is served.
        draw: Gives a number in [0, 1) for each request.
    """

    def __init__(self, catalog: Catalog, draw: Callable[[], float] = random.random) -> None:
        self._catalog, self._draw = catalog, draw

    def route(self, model: str, user: str | None = None) -> Route:
        """The route of one request.

        Args:
            model: Id as sent.
            user: Who asks, for rules that keep a user with one version.

        Raises:
            UnknownModelError: There is no such model here.
        """
        named = self._catalog.split(model)
        if named is None:
            return Route(self._catalog.base)
        adapter, wanted = named
        rule = self._rule(adapter) if not wanted else None
        if rule is None:
            found = self._catalog.find(adapter, wanted)
            return Route(found.id, found.alias)
        draw = self._draw()
        # A challenger that can't be served turns nobody away.
        answering = self._servable(adapter, rule.alias(adapter, user, draw)) or self._catalog.find(adapter, CHAMPION)
        besides = rule.besides(adapter, user, draw)
        shadow = self._servable(adapter, besides) if besides else None
        return Route(answering.id, answering.alias, shadow.id if shadow and shadow.id != answering.id else None)

    def _rule(self, adapter: str) -> Traffic | None:
        try:
            return self._catalog.view.traffic(adapter)
        except (InputError, IntegrityError):
            return None  # a broken rule is logged where it is read, and the champion answers

    def _servable(self, adapter: str, alias: str) -> Named | None:
        try:
            return self._catalog.find(adapter, alias)
        except UnknownModelError:
            return None
