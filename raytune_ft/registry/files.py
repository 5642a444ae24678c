"""Where a registry keeps what of an adapter: versions, aliases, and the lock under which they change."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.names import check_name, is_name
from raytune_ft.paths import read_json
from raytune_ft.registry import manifest

PREVIOUS = "previous"  # where `champion` pointed before; rollback swaps the two
ALIASES_NAME = "aliases.json"
JOURNAL_NAME = "journal.jsonl"
TRAFFIC_NAME = "traffic.json"
VERSION = re.compile(r"[1-9][0-9]{0,8}")
_OLD_PREVIOUS = "champion.previous"
_LOCK_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class AdapterFiles:
    """Adapters under one directory: `<root>/<adapter>/<version>/` and `<root>/<adapter>/aliases.json`."""

    root: Path

    @property
    def location(self) -> str:
        """What a user names it by."""
        return str(self.root)

    def refresh(self, adapter: str) -> None:
        """Makes what is read of `adapter` from here on as new as it has to be; a directory always is."""

    def adapters(self) -> list[str]:
        """Names of the adapters that have a version, sorted."""
        if not self.root.is_dir():
            return []
        names = sorted(
            entry.name
            for entry in self.root.iterdir()
            if is_name(entry.name) and entry.is_dir() and not entry.is_symlink()
        )
        return [name for name in names if self.versions(name)]

    def versions(self, adapter: str) -> list[int]:
        """Whole versions of `adapter`, ascending."""
        directory = self.directory(adapter)
        if not directory.is_dir():
            return []
        return sorted(
            int(entry.name)
            for entry in directory.iterdir()
            if VERSION.fullmatch(entry.name) and (entry / manifest.MANIFEST_NAME).is_file() and not entry.is_symlink()
        )

    def directory(self, adapter: str) -> Path:
        """Where `adapter` lies or would lie; its name is checked, and links are refused."""
        check_name("adapter", adapter)
        return self._inside(self.root / adapter)

    def path(self, adapter: str, version: int) -> Path:
        """Directory of one version.

        Raises:
            InputError: There is no such version.
            IntegrityError: The path leads somewhere else than it says.
        """
        path = self._inside(self.directory(adapter) / str(int(version)))
        if not (path / manifest.MANIFEST_NAME).is_file():
            known = ", ".join(str(number) for number in self.versions(adapter)) or "none"
            what = f"no such version in {self.location} (has {known})"
            raise InputError(f"{adapter}@{version}", what, "see adapters")
        return path

    def verified(self, adapter: str, version: int) -> Path:
        """Directory of one version, after each of its files proved to be the one its manifest names.

        Raises:
            IntegrityError: One is not.
        """
        path = self.path(adapter, version)
        manifest.verify(path)
        return path

    def file(self, adapter: str, name: str) -> Path:
        """Where one of the adapter's own files lies or would lie; links are refused."""
        return self._inside(self.directory(adapter) / name)

    def aliases(self, adapter: str) -> dict[str, int]:
        """Alias -> version."""
        path = self.file(adapter, ALIASES_NAME)
        if not path.is_file():
            return {}
        value = read_json(path)
        if not isinstance(value, dict) or not all(type(number) is int and number > 0 for number in value.values()):
            raise IntegrityError(f"{path}: must map aliases to version numbers; promote again or write it anew")
        if (before := value.pop(_OLD_PREVIOUS, None)) is not None:
            value.setdefault(PREVIOUS, before)
        return {str(name): int(number) for name, number in value.items()}

    def alias(self, adapter: str, name: str) -> int | None:
        """Version that the alias `name` points to, or None."""
        return self.aliases(adapter).get(check_name("alias", name))

    @contextmanager
    def lock(self, adapter: str) -> Iterator[None]:
        """The one lock under which versions, aliases and traffic of `adapter` change.

        Raises:
            InputError: There is no such adapter.
            RaytuneError: Another process kept it for too long, or it can't be taken.
        """
        directory = self.directory(adapter)
        if not directory.is_dir():
            known = ", ".join(self.adapters()) or "none"
            raise InputError(adapter, f"no such adapter in {self.location} (has {known})", "promote a run")
        path = self._inside(directory / ".lock")
        lock = FileLock(path, timeout=_LOCK_TIMEOUT_S)
        try:
            lock.acquire()
        except Timeout as error:
            raise RaytuneError(f"{path}: another process has held it for {_LOCK_TIMEOUT_S:.0f} s; try again") from error
        except OSError as error:
            raise RaytuneError(f"{path}: can't be locked ({error.strerror}); nothing was changed") from error
        try:
            yield
        finally:
            lock.release()

    def _inside(self, path: Path) -> Path:
        """The real path, proved to be the very place it names: no link leads out of the registry or across it."""
        root = Path(os.path.realpath(self.root))
        real = Path(os.path.realpath(path))
        if real != root / path.relative_to(self.root if path.is_relative_to(self.root) else root):
            raise IntegrityError(f"{path}: is a link to {real}; adapters must lie inside the registry")
        return real
