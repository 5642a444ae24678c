"""The registry as a background thread last read it, so that a mount that hangs blocks no request."""

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
"""Seconds between two reads of a directory; a moved alias takes effect about this much later."""
EVERY_IN_BUCKET_S = 2.0
"""Seconds between two reads of a bucket, where each read is a request that costs money."""
ANEW_S = 1.0
"""Most seconds that a request for an unknown model or for the list of models waits for a fresh read."""


@dataclass(frozen=True)
class Adapter:
    """One adapter as it was last read; an IntegrityError stands for a broken file and is raised when asked for."""

    versions: Mapping[int, Manifest]
    aliases: Mapping[str, int] | IntegrityError
    traffic: Traffic | IntegrityError | None
    past_champions: Sequence[int] = ()


Adapters = Mapping[str, Adapter]


class FollowedRegistry:
    """A registry's last readable state, from memory.

    Args:
        view: Reads the registry.
        root: Directory that must exist for a read to count; None skips the check.
        every_s: Seconds between two reads.

    Raises:
        OSError: The registry can't be read at the start.
    """

    def __init__(self, view: RegistryReader, root: str | None = None, every_s: float = EVERY_S) -> None:
        self._view, self._root = view, root
        self._before: Adapters = {}
        self._follower = Follower(self._read, every_s, "the registry")

    def start(self) -> None:
        """Starts the thread that rereads the registry."""
        self._follower.start()

    @property
    def age_s(self) -> float:
        """Seconds since the last successful read."""
        return self._follower.age_s

    async def anew(self) -> None:
        """Waits at most a second for a read that begins after this call."""
        await self._follower.anew(ANEW_S)

    def aliases(self, adapter: str) -> Mapping[str, int]:
        """Returns alias -> version; raises IntegrityError if the file is broken."""
        found = self._follower.value.get(adapter)
        return _or_raise(found.aliases) if found else {}

    def past_champions(self, adapter: str) -> Sequence[int]:
        """Returns the versions that were the champion before, the newest first."""
        found = self._follower.value.get(adapter)
        return found.past_champions if found else ()

    def traffic(self, adapter: str) -> Traffic | None:
        """Returns how requests to the adapter's plain name are split, or None; raises IntegrityError as `aliases`."""
        found = self._follower.value.get(adapter)
        return _or_raise(found.traffic) if found else None

    def manifest(self, adapter: str, version: int) -> Manifest | None:
        """Returns the version's manifest, or None if there is no such version or it is broken."""
        found = self._follower.value.get(adapter)
        return found.versions.get(version) if found else None

    def whole_versions(self) -> dict[str, dict[int, Manifest]]:
        """Returns adapter -> version -> manifest."""
        return {name: dict(adapter.versions) for name, adapter in self._follower.value.items()}

    def _read(self) -> Adapters:
        if self._root is not None:
            os.stat(self._root)  # raises if the mount is gone, which must not look like a registry without adapters
        found = {name: self._adapter(name, versions) for name, versions in self._view.whole_versions().items()}
        self._before = found
        return found

    def _adapter(self, name: str, versions: Mapping[int, Manifest]) -> Adapter:
        aliases: Mapping[str, int] | IntegrityError
        traffic: Traffic | IntegrityError | None
        try:
            aliases = self._view.aliases(name)
        except IntegrityError as error:  # the aliases from before the file broke are better than none
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
    """Returns a reader that follows the registry in a directory or bucket from now on."""
    view = RegistryView(location)
    every_s = EVERY_IN_BUCKET_S if view.remote else EVERY_S
    followed = FollowedRegistry(view, str(view.registry.root), every_s)
    followed.start()
    return followed


def _or_raise(value: _T | IntegrityError) -> _T:
    if isinstance(value, IntegrityError):
        raise value
    return value
