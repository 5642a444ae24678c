"""The registry as the endpoint sees it: a file is read anew only where it changed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.names import check_name, is_name
from raytune_ft.registry import manifest as manifests
from raytune_ft.registry.bucket.bucket import is_remote
from raytune_ft.registry.files import ALIASES_NAME, JOURNAL_NAME, TRAFFIC_NAME
from raytune_ft.registry.journal import Move, read_journal
from raytune_ft.registry.location import open_registry
from raytune_ft.registry.manifest import MANIFEST_NAME, Manifest
from raytune_ft.registry.past_champions import had_champion, past_champions
from raytune_ft.registry.traffic import Traffic, read_traffic

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_Stamp = tuple[tuple[int, int, int] | None, ...]


class _Remembered(Generic[_T]):
    """What was read from each file, until its inode, time or size is another: every writer here renames."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[_Stamp, _T | IntegrityError]] = {}

    def get(self, path: str, read: Callable[[], _T], *others: str) -> _T | None:
        """The value; None where there is no file. `others` are files that it depends on besides.

        Raises:
            IntegrityError: The file is broken; it is logged once.
        """
        stamp = tuple(_stamp(each) for each in (path, *others))  # taken first: a change meanwhile is seen next time
        if stamp[0] is None:
            self._known.pop(path, None)
            return None
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            value: _T | IntegrityError
            try:
                value = read()
            except IntegrityError as error:
                _log.warning("left out: %s", error)
                value = error
            known = self._known[path] = (stamp, value)
        if isinstance(known[1], IntegrityError):
            raise known[1]
        return known[1]


def is_version(text: str) -> bool:
    """Whether it is a version's number as the registry writes it."""
    return text.isascii() and text.isdecimal() and text[0] != "0" and len(text) < 10


def _directories(path: str) -> list[str]:
    """Names of the directories in it; links are none, and what isn't there has none."""
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


class RegistryReader(Protocol):
    """What the catalog asks of a registry."""

    def aliases(self, adapter: str) -> Mapping[str, int]:
        """Alias -> version. Raises IntegrityError where the file is broken, or gone although there was a champion."""

    def past_champions(self, adapter: str) -> Sequence[int]:
        """Versions that were the champion before, the newest first."""

    def traffic(self, adapter: str) -> Traffic | None:
        """How requests to the adapter's plain name are split, or None. Raises IntegrityError as `aliases`."""

    def manifest(self, adapter: str, version: int) -> Manifest | None:
        """The version's manifest; None where there is no such version. Raises IntegrityError as `aliases`."""

    def whole_versions(self) -> dict[str, dict[int, Manifest]]:
        """Adapter -> version -> manifest; a broken one is left out, and its adapter is there all the same."""


class RegistryView:
    """Aliases, traffic and manifests of a registry, at the price of a `stat` each.

    Nothing is remembered of names that aren't there, so that what is asked for can't fill the memory.

    Args:
        location: The registry's directory, or its bucket; that one is asked at most once a second.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self.registry = open_registry(location, keep_going=True)
        self._root = str(self.registry.root)
        self.remote = is_remote(location)
        """Whether asking may wait for a server."""
        self._aliases: _Remembered[Mapping[str, int]] = _Remembered()
        self._traffic: _Remembered[Traffic | None] = _Remembered()
        self._manifests: _Remembered[Manifest] = _Remembered()
        self._moves: _Remembered[Sequence[Move]] = _Remembered()
        self._had_aliases: set[str] = set()
        self._told_gone: set[str] = set()

    def __reduce__(self) -> tuple[type[RegistryView], tuple[str]]:
        return RegistryView, (self._location,)  # what is remembered stays in its process

    def aliases(self, adapter: str) -> Mapping[str, int]:
        """Alias -> version, as the registry says now."""
        path = self._file(adapter, ALIASES_NAME)
        found = self._aliases.get(path, lambda: self.registry.aliases(adapter))
        if found is not None:
            self._had_aliases.add(adapter)
            self._told_gone.discard(adapter)
            return found
        if not os.path.isdir(os.path.dirname(path)):  # the adapter itself was taken away
            self._had_aliases.discard(adapter)
        elif adapter in self._had_aliases or had_champion(self._journal(adapter)):
            if adapter not in self._told_gone:
                self._told_gone.add(adapter)
                _log.warning("%s is gone; put it back, or promote again", path)
            raise IntegrityError(f"{path}: is gone; put it back, or promote again")
        return {}

    def past_champions(self, adapter: str) -> Sequence[int]:
        """Versions that were the champion before, the newest first; none where the journal is broken."""
        return past_champions(self._journal(adapter))

    def traffic(self, adapter: str) -> Traffic | None:
        """How requests to the adapter's plain name are split, or None."""
        path = self._file(adapter, TRAFFIC_NAME)
        # A rule counts only while each of its aliases points somewhere.
        return self._traffic.get(path, lambda: read_traffic(self.registry, adapter), self._file(adapter, ALIASES_NAME))

    def manifest(self, adapter: str, version: int) -> Manifest | None:
        """The version's manifest; None where there is no such version."""
        path = self._file(adapter, str(int(version)), MANIFEST_NAME)
        return self._manifests.get(path, lambda: manifests.read(self.registry.path(adapter, version)))

    def whole_versions(self) -> dict[str, dict[int, Manifest]]:
        """Adapter -> version -> manifest; one that is broken is left out, the others are still served.

        An adapter stays with none of them: its champion is missed, not unknown.
        """
        if self.remote:
            self.registry.adapters()  # brings what is new
        found: dict[str, dict[int, Manifest]] = {}
        for adapter in sorted(name for name in _directories(self._root) if is_name(name)):
            numbers = [int(name) for name in _directories(os.path.join(self._root, adapter)) if is_version(name)]
            versions: dict[int, Manifest] = {}
            for number in sorted(numbers):
                try:
                    manifest = self.manifest(adapter, number)
                except (InputError, IntegrityError):
                    continue  # logged where it was read, or just taken away
                if manifest is not None:
                    versions[number] = manifest
            if numbers or _stamp(os.path.join(self._root, adapter, ALIASES_NAME)) is not None:
                found[adapter] = versions
        return found

    def _journal(self, adapter: str) -> Sequence[Move]:
        path = self._file(adapter, JOURNAL_NAME)
        try:
            return self._moves.get(path, lambda: read_journal(self.registry, adapter)) or ()
        except IntegrityError:
            return ()  # logged where it was read

    def _file(self, adapter: str, *names: str) -> str:
        check_name("adapter", adapter)
        self.registry.refresh(adapter)
        return os.path.join(self._root, adapter, *names)
