"""Decides which version answers for a champion: itself, or an earlier one while it can't be served or is loading."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.registry.files import PREVIOUS
from raytune_ft.registry.traffic import CHAMPION
from raytune_ft.serving.models.catalog import Catalog

_log = logging.getLogger(__name__)
_RETRY_S = 60.0  # a version that could not be loaded is tried again after it, since the storage may be back
LOADING = "it is being loaded"
_UNREADABLE = "its aliases can't be read"


class NotLoadedError(RaytuneError):
    """The engine could not load the version that a request was sent to."""


def is_not_loaded(error: BaseException) -> bool:
    """Tells whether the error is a NotLoadedError, also when Ray passed it on from another process."""
    causes = (error, error.__cause__, getattr(error, "cause", None))
    kinds = (kind for cause in causes if isinstance(cause, BaseException) for kind in type(cause).__mro__)
    return any(kind.__name__ == NotLoadedError.__name__ for kind in kinds)


@dataclass(frozen=True)
class Version:
    """What is known of one version when the version that answers is chosen."""

    number: int
    refusal: str | None = None
    """The reason why it can't be served, or None."""
    loaded: bool = False
    """The engine has loaded it."""


@dataclass(frozen=True)
class Standing:
    """Which version answers for an adapter's champion."""

    adapter: str
    champion: int | None
    """The champion's version; None if the aliases can't be read."""
    answering: int | None
    """The version that answers, which may be the champion; None if no version can."""
    reason: str = ""
    """The reason why the champion does not answer itself."""

    @property
    def held_back(self) -> bool:
        """Whether the champion does not answer itself."""
        return self.answering is None or self.answering != self.champion

    @property
    def loading(self) -> bool:
        """Whether the champion only has to be loaded before it can answer."""
        return self.held_back and self.reason == LOADING


def stand(adapter: str, champion: Version, others: Sequence[Version]) -> Standing:
    """Decides which version answers.

    Args:
        adapter: Name of the adapter.
        champion: The version that the alias `champion` points to.
        others: Versions that may answer in its place, the preferred one first.
    """
    able = [each for each in others if each.refusal is None and each.number != champion.number]
    loaded = [each for each in able if each.loaded]
    if champion.refusal is None:
        # If no other version is loaded, the request itself waits until the champion is.
        if champion.loaded or not loaded:
            return Standing(adapter, champion.number, champion.number)
        return Standing(adapter, champion.number, loaded[0].number, LOADING)
    instead = next(iter(loaded or able), None)
    return Standing(adapter, champion.number, instead.number if instead else None, champion.refusal)


class Champions:
    """Remembers which versions the engine loaded or failed to load, and which version answered last.

    Args:
        catalog: The models that the endpoint serves.
        clock: Returns a monotonic time in seconds.
    """

    def __init__(self, catalog: Catalog, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalog, self._clock = catalog, clock
        self._loaded: set[str] = set()
        self._failed: dict[str, tuple[str, float]] = {}
        self._answered: dict[str, int] = {}
        self._told: dict[str, tuple[int | None, str]] = {}

    def loaded(self, model: str) -> None:
        """Notes that the engine has loaded the version of this concrete id."""
        self._loaded.add(model)
        self._failed.pop(model, None)

    def failed(self, model: str, reason: str) -> None:
        """Notes that the engine could not load the version; for the next minute it is not asked to."""
        self._loaded.discard(model)
        self._failed[model] = (reason, self._clock())

    def has_failed(self, model: str) -> bool:
        """Tells whether loading the version failed within the last minute."""
        return self._failure(model) is not None

    def standing(self, adapter: str) -> Standing | None:
        """Returns which version answers for the adapter's champion now; None if it has no champion.

        If neither the version that answered last nor the alias `previous` can be served, the newest earlier champion
        that can is taken. This matters for an endpoint that starts after several bad promotions, since it has not seen
        any version answer.
        """
        try:
            aliases = self._catalog.view.aliases(adapter)
        except InputError:
            return None
        except IntegrityError:
            return Standing(adapter, None, None, _UNREADABLE)
        if (champion := aliases.get(CHAMPION)) is None:
            return None
        before = (self._answered.get(adapter), aliases.get(PREVIOUS))
        others = [self._version(adapter, number) for number in dict.fromkeys(before) if number is not None]
        found = stand(adapter, self._version(adapter, champion), others)
        if found.answering is None:
            earlier = (self._version(adapter, number) for number in self._catalog.view.past_champions(adapter))
            able = (each.number for each in earlier if each.refusal is None and each.number != champion)
            found = replace(found, answering=next(able, None))
        if not found.held_back and self._is_loaded(adapter, champion):
            self._answered[adapter] = champion
        return found

    def answering(self, adapter: str) -> int | None:
        """Returns the version that answers for the adapter's champion, or None."""
        found = self.standing(adapter)
        return found.answering if found else None

    def held_back(self) -> list[Standing]:
        """Returns the champions of this endpoint's base that do not answer themselves."""
        found = [standing for adapter in self._catalog.own_adapters() if (standing := self.standing(adapter))]
        return [each for each in found if each.held_back]

    def tell(self) -> None:
        """Logs each champion that can't be served, once, and logs again when it can."""
        held = {each.adapter: each for each in self.held_back()}
        for adapter, each in held.items():
            if each.loading or self._told.get(adapter) == (each.champion, each.reason):
                continue
            self._told[adapter] = (each.champion, each.reason)
            champion = self._catalog.id_of(adapter, each.champion or CHAMPION)
            instead = self._catalog.id_of(adapter, each.answering) if each.answering else None
            goes_on = f"{instead} goes on answering" if instead else "nobody answers in its place"
            _log.error("the champion %s can't be served: %s; %s", champion, each.reason, goes_on)
        for adapter in self._told.keys() - held.keys():
            del self._told[adapter]
            _log.warning("the champion of %s:%s is served again", self._catalog.base, adapter)

    def _version(self, adapter: str, number: int) -> Version:
        model = self._catalog.id_of(adapter, number)
        refusal = self._catalog.refusal(adapter, number) or self._failure(model)
        return Version(number, refusal, self._is_loaded(adapter, number))

    def _is_loaded(self, adapter: str, number: int) -> bool:
        return self._catalog.id_of(adapter, number) in self._loaded

    def _failure(self, model: str) -> str | None:
        reason, at = self._failed.get(model, ("", float("-inf")))
        return reason if self._clock() - at < _RETRY_S else None
