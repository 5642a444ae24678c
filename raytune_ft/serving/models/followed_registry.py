"""The registry from memory: a thread reads it again and again, so that a mount that hangs stops no request."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.registry.manifest import Manifest
from raytune_ft.registry.traffic import Traffic
from raytune_ft.serving.models.follow import Follower
from raytune_ft.serving.models.registry_view import RegistryReader, RegistryView

_T = TypeVar("_T")
EVERY_S = 0.5
"""Pause between two looks at a directory: a moved alias counts about that much later."""
EVERY_IN_BUCKET_S = 2.0
"""The same of a bucket, where each look is a request that is paid for."""
ANEW_S = 1.0
"""What names a model that is unknown, or asks for the list, waits at most this long for a look of its own."""


@dataclass(frozen=True)
class Adapter:
    """One adapter as it was read."""

    versions: Mapping[int, Manifest]
    aliases: Mapping[str, int] | IntegrityError
    traffic: Traffic | IntegrityError | None
    past_champions: Sequence[int] = ()


Adapters = Mapping[str, Adapter]


class FollowedRegistry:
    """A registry's last state that could be read, from memory.

    Args:
        view: Reads it.
        every_s: Pause between two reads.

    Raises:
        OSError: It can't be read at the start.
    """

    def __init__(self, view: RegistryReader, root: str | None = None, every_s: float = EVERY_S) -> None:
        self._view, self._root = view, root
        self._before: Adapters = {}
        self._follower = Follower(self._read, every_s, "the registry")

    def start(self) -> None:
        """From now on it is read again and again."""
        self._follower.start()

    @property
    def age_s(self) -> float:
        """Seconds since it was looked at with success."""
        return self._follower.age_s

    async def anew(self) -> None:
        """Waits for a look at it from now on, at most a second."""
        await self._follower.anew(ANEW_S)

    def aliases(self, adapter: str) -> Mapping[str, int]:
        """Alias -> version. Raises IntegrityError where the file is broken."""
        found = self._follower.value.get(adapter)
        return _or_raise(found.aliases) if found else {}

    def past_champions(self, adapter: str) -> Sequence[int]:
        """Versions that were the champion before, the newest first."""
        found = self._follower.value.get(adapter)
        return found.past_champions if found else ()

    def traffic(self, adapter: str) -> Traffic | None:
        """How requests to the adapter's plain name are split, or None. Raises IntegrityError as `aliases`."""
        found = self._follower.value.get(adapter)
        return _or_raise(found.traffic) if found else None

    def manifest(self, adapter: str, version: int) -> Manifest | None:
        """The version's manifest; None where there is no such version that is whole."""
        found = self._follower.value.get(adapter)
        return found.versions.get(version) if found else None

    def whole_versions(self) -> dict[str, dict[int, Manifest]]:
        """Adapter -> version -> manifest."""
        return {name: dict(adapter.versions) for name, adapter in self._follower.value.items()}

    def _read(self) -> Adapters:
        if self._root is not None:
            os.stat(self._root)  # a mount that is gone is no registry without adapters
        found = {name: self._adapter(name, versions) for name, versions in self._view.whole_versions().items()}
        self._before = found
        return found

    def _adapter(self, name: str, versions: Mapping[int, Manifest]) -> Adapter:
        aliases: Mapping[str, int] | IntegrityError
        traffic: Traffic | IntegrityError | None
        try:
            aliases = self._view.aliases(name)
        except IntegrityError as error:  # what it said before it broke is better than nothing
            before = self._before.get(name)
            aliases = before.aliases if before else error
        try:
            traffic = self._view.traffic(name)
        except InputError:
            traffic = None
        except IntegrityError as error:
            traffic = error
        return Adapter(versions, aliases, traffic, self._view.past_champions(name))


def follow(location: str) -> FollowedRegistry:
    """Begins to follow the registry in a directory or bucket."""
    view = RegistryView(location)
    every_s = EVERY_IN_BUCKET_S if view.remote else EVERY_S
    followed = FollowedRegistry(view, str(view.registry.root), every_s)
    followed.start()
    return followed


def _or_raise(value: _T | IntegrityError) -> _T:
    if isinstance(value, IntegrityError):
        raise value
    return value
