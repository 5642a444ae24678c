"""Reads the registry for the endpoint; each file is cached until it changes."""

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
    """Caches the value read from each file until its inode, mtime or size changes; all writers replace by rename."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[_Stamp, _T | IntegrityError]] = {}

    def get(self, path: str, read: Callable[[], _T], *others: str) -> _T | None:
        """Returns the value of a file, or None if the file is missing.

        Args:
            path: The file.
            read: Reads the value.
            *others: Further files that the value depends on.

        Raises:
            IntegrityError: The file is broken; this is logged once.
        """
        stamp = tuple(_stamp(each) for each in (path, *others))  # before the read: later changes are seen next time
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
    """Tells whether the text is a version number as the registry writes it."""
    return text.isascii() and text.isdecimal() and text[0] != "0" and len(text) < 10


def _directories(path: str) -> list[str]:
    """Returns the names of a directory's subdirectories, without links; none if the directory is missing."""
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
    """The registry interface that the catalog needs."""

    def aliases(self, adapter: str) -> Mapping[str, int]:
        """Returns alias -> version.

        Raises:
            IntegrityError: The file is broken, or is missing although there was a champion.
        """

    def past_champions(self, adapter: str) -> Sequence[int]:
        """Returns the versions that were the champion before, the newest first."""

    def traffic(self, adapter: str) -> Traffic | None:
        """Returns how requests to the adapter's plain name are split, or None; raises IntegrityError if broken."""

    def manifest(self, adapter: str, version: int) -> Manifest | None:
        """Returns the version's manifest, or None if there is no such version; raises IntegrityError if broken."""

    def whole_versions(self) -> dict[str, dict[int, Manifest]]:
        """Returns adapter -> version -> manifest; broken versions are left out, but their adapter is kept."""


class RegistryView:
    """Reads aliases, traffic rules and manifests of a registry, at the cost of a `stat` each.

    Names that do not exist are not cached, so that requests for them can't fill the memory.

    Args:
        location: The registry's directory, or its bucket, which is asked at most once a second.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self.registry = open_registry(location, keep_going=True)
        self._root = str(self.registry.root)
        self.remote = is_remote(location)
        """Whether the registry is in a bucket, so that a read may wait for a server."""
        self._aliases: _Remembered[Mapping[str, int]] = _Remembered()
        self._traffic: _Remembered[Traffic | None] = _Remembered()
        self._manifests: _Remembered[Manifest] = _Remembered()
        self._moves: _Remembered[Sequence[Move]] = _Remembered()
        self._had_aliases: set[str] = set()
        self._told_gone: set[str] = set()

    def __reduce__(self) -> tuple[type[RegistryView], tuple[str]]:
        return RegistryView, (self._location,)  # the cache is not pickled

    def aliases(self, adapter: str) -> Mapping[str, int]:
        """Returns alias -> version as the registry says now; raises IntegrityError as RegistryReader's."""
        path = self._file(adapter, ALIASES_NAME)
        found = self._aliases.get(path, lambda: self.registry.aliases(adapter))
        if found is not None:
            self._had_aliases.add(adapter)
            self._told_gone.discard(adapter)
            return found
        if not os.path.isdir(os.path.dirname(path)):  # the whole adapter was removed
            self._had_aliases.discard(adapter)
        elif adapter in self._had_aliases or had_champion(self._journal(adapter)):
            if adapter not in self._told_gone:
                self._told_gone.add(adapter)
                _log.warning("%s is gone; put it back, or promote again", path)
            raise IntegrityError(f"{path}: is gone; put it back, or promote again")
        return {}

    def past_champions(self, adapter: str) -> Sequence[int]:
        """Returns the versions that were the champion before, the newest first; none if the journal is broken."""
        return past_champions(self._journal(adapter))

    def traffic(self, adapter: str) -> Traffic | None:
        """Returns how requests to the adapter's plain name are split, or None."""
        path = self._file(adapter, TRAFFIC_NAME)
        # The rule depends on the aliases too: it is valid only while each alias in it exists.
        return self._traffic.get(path, lambda: read_traffic(self.registry, adapter), self._file(adapter, ALIASES_NAME))

    def manifest(self, adapter: str, version: int) -> Manifest | None:
        """Returns the version's manifest, or None if there is no such version."""
        path = self._file(adapter, str(int(version)), MANIFEST_NAME)
        return self._manifests.get(path, lambda: manifests.read(self.registry.path(adapter, version)))

    def whole_versions(self) -> dict[str, dict[int, Manifest]]:
        """Returns adapter -> version -> manifest, without the versions that are broken.

        An adapter of which all versions are broken is kept, so that its champion counts as unavailable, not as unknown.
        """
        if self.remote:
            self.registry.adapters()  # downloads what is new
        found: dict[str, dict[int, Manifest]] = {}
        for adapter in sorted(name for name in _directories(self._root) if is_name(name)):
            numbers = [int(name) for name in _directories(os.path.join(self._root, adapter)) if is_version(name)]
            versions: dict[int, Manifest] = {}
            for number in sorted(numbers):
                try:
                    manifest = self.manifest(adapter, number)
                except (InputError, IntegrityError):
                    continue  # logged where it was read, or removed just now
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
