"""The registry's directory: which adapters, versions and aliases there are, and where each lies."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.names import check_name, is_name
from raytune_ft.paths import read_json, write_json
from raytune_ft.registry import manifest

CHAMPION = "champion"
_PREVIOUS = ".previous"  # `champion.previous` is where `champion` pointed before; rollback swaps the two
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_LOCK_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Resolved:
    """One version of one adapter, and the directory that holds it."""

    adapter: str
    version: int
    path: Path

    @property
    def reference(self) -> str:
        return f"{self.adapter}@{self.version}"


@dataclass(frozen=True)
class Registry:
    """Adapters under one directory: `<root>/<adapter>/<version>/` and `<root>/<adapter>/aliases.json`."""

    root: Path

    def adapters(self) -> list[str]:
        """Names of the adapters that have a version, sorted."""
        if not self.root.is_dir():
            return []
        names = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir() and is_name(entry.name))
        return [name for name in names if self.versions(name)]

    def versions(self, adapter: str) -> list[int]:
        """Whole versions of `adapter`, ascending."""
        directory = self.directory(adapter)
        if not directory.is_dir():
            return []
        return sorted(
            int(entry.name)
            for entry in directory.iterdir()
            if _VERSION.fullmatch(entry.name) and (entry / manifest.MANIFEST_NAME).is_file() and not entry.is_symlink()
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
            raise InputError(f"{adapter}@{version}", f"no such version in {self.root} (has {known})", "see adapters")
        return path

    def aliases(self, adapter: str) -> dict[str, int]:
        """Alias -> version."""
        path = self.directory(adapter) / "aliases.json"
        if not path.is_file():
            return {}
        value = read_json(path)
        if not isinstance(value, dict) or not all(type(number) is int and number > 0 for number in value.values()):
            raise IntegrityError(f"{path}: must map aliases to version numbers; promote again or write it anew")
        return {str(name): int(number) for name, number in value.items()}

    def alias(self, adapter: str, name: str) -> int | None:
        """Version that the alias `name` points to, or None."""
        return self.aliases(adapter).get(name)

    def set_alias(self, adapter: str, name: str, version: int) -> int | None:
        """Moves an alias to a version whose files were just verified; returns the version before."""
        check_name("alias", name)
        if name.endswith(_PREVIOUS):
            raise InputError("alias", f"{name!r} is kept by the registry itself", f"choose one without {_PREVIOUS!r}")
        with self.lock(adapter):
            manifest.verify(self.path(adapter, version))
            aliases = self.aliases(adapter)
            before = aliases.get(name)
            if before not in (None, version):
                aliases[name + _PREVIOUS] = before
            aliases[name] = version
            write_json(self.directory(adapter) / "aliases.json", aliases)
        return before

    def rollback(self, adapter: str, name: str = CHAMPION) -> int:
        """Points the alias back to where it was before, and returns that version; twice undoes it."""
        with self.lock(adapter):
            aliases = self.aliases(adapter)
            now, before = aliases.get(name), aliases.get(name + _PREVIOUS)
            if now is None or before is None:
                raise RaytuneError(f"{adapter}: {name} has no version before {now or 'the first'}; nothing was changed")
            manifest.verify(self.path(adapter, before))
            aliases[name], aliases[name + _PREVIOUS] = before, now
            write_json(self.directory(adapter) / "aliases.json", aliases)
        return before

    def resolve(self, reference: str) -> Resolved:
        """Finds `movie-sentiment` (its champion) or `movie-sentiment@3`.

        Raises:
            InputError: The name breaks the rule, or there is no such adapter, alias or version.
        """
        adapter, marked, number = reference.partition("@")
        check_name("adapter", adapter)
        if marked:
            if not _VERSION.fullmatch(number):
                raise InputError("adapter", f"{reference[:80]!a} has no version number", "write name@3")
            version = int(number)
        else:
            champion = self.alias(adapter, CHAMPION)
            if champion is None:
                known = ", ".join(self.adapters()) or "none"
                raise InputError(adapter, f"has no {CHAMPION} in {self.root} (adapters: {known})", "promote a run")
            version = champion
        return Resolved(adapter, version, self.path(adapter, version))

    def lock(self, adapter: str) -> FileLock:
        """The one lock under which versions and aliases of `adapter` change."""
        directory = self.directory(adapter)
        if not directory.is_dir():
            known = ", ".join(self.adapters()) or "none"
            raise InputError(adapter, f"no such adapter in {self.root} (has {known})", "promote a run")
        return FileLock(directory / ".lock", timeout=_LOCK_TIMEOUT_S)

    def _inside(self, path: Path) -> Path:
        """The real path, proved to be the very place it names: no link leads out of the registry or across it."""
        root = Path(os.path.realpath(self.root))
        real = Path(os.path.realpath(path))
        if real != root / path.relative_to(self.root if path.is_relative_to(self.root) else root):
            raise IntegrityError(f"{path}: is a link to {real}; adapters must lie inside the registry")
        return real
