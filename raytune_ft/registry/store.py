"""The registry's directory: which adapters, versions and aliases there are, and where each lies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.names import check_name, is_name
from raytune_ft.paths import read_json, write_json
from raytune_ft.registry import manifest
from raytune_ft.registry.compared import check_compared, compared_in
from raytune_ft.registry.journal import Move, record
from raytune_ft.registry.traffic import CHALLENGER, CHAMPION, clear_vanished, remove_rule

PREVIOUS = "previous"  # where `champion` pointed before; rollback swaps the two
ALIASES = (CHAMPION, CHALLENGER, PREVIOUS)
ALIASES_NAME = "aliases.json"
_OLD_PREVIOUS = "champion.previous"
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

    def set_alias(self, adapter: str, alias: str, version: int, *, move: Move | None = None) -> int | None:
        """Moves `champion` or `challenger` to a version whose files were just verified.

        Args:
            adapter: The adapter's name.
            alias: Which of the two.
            version: Where it points from now on.
            move: What the journal says of it; study, trial, gates and force are the manifest's where it is silent.

        Returns:
            The version that the alias pointed to before, or None.
        """
        check_alias(alias)
        with self.lock(adapter):
            before = self.alias(adapter, alias)
            self.point(adapter, alias, version, move or Move())
        return before

    def rollback(self, adapter: str, to: int | None = None, *, move: Move | None = None) -> int:
        """Points `champion` back to `previous`, or to the version `to`, and returns it; twice undoes it.

        Raises:
            RaytuneError: There is no version to go back to; nothing was changed.
        """
        with self.lock(adapter):
            aliases = self.aliases(adapter)
            now, before = aliases.get(CHAMPION), to or aliases.get(PREVIOUS)
            if now is None or before is None or before == now:
                why = f"is {now} already" if now and now == to else f"has no version before {now or 'the first'}"
                raise RaytuneError(f"{adapter}: {CHAMPION} {why}; nothing was changed")
            self.point(adapter, CHAMPION, before, replace(move or Move(), action="rollback"))
        return before

    def end_canary(self, adapter: str, *, force: bool = False, move: Move | None = None) -> tuple[int, int | None]:
        """Makes the challenger the champion and ends the traffic rule, in one move.

        Args:
            adapter: The adapter's name.
            force: Also where the champion is not the one that the challenger was compared with.
            move: What the journal says of it.

        Returns:
            The new champion's version, and the one before.

        Raises:
            ChampionMovedError: The champion is another one; nothing was changed.
        """
        with self.lock(adapter):
            aliases = self.aliases(adapter)
            if (version := aliases.get(CHALLENGER)) is None:
                remedy = f"run: raytune-ft promote RUN --as {CHALLENGER}"
                raise InputError(adapter, f"has no {CHALLENGER} in {self.location}", remedy)
            champion = aliases.get(CHAMPION)
            compared = compared_in(manifest.read(self.path(adapter, version)).gates)
            moved = compared is not None and champion not in (version, compared.champion)
            if not force:
                check_compared(f"{adapter}@{version}", compared if moved else None, champion)
            move = replace(move or Move(), action="canary_end", forced=moved)
            self.point(adapter, CHAMPION, version, move, drop=CHALLENGER)
        return version, champion

    def point(self, adapter: str, alias: str, version: int, move: Move, drop: str | None = None) -> None:
        """Verifies, journals, moves; the caller holds the lock. `aliases.json` is what makes the move happen."""
        found = manifest.read(self.verified(adapter, version))
        clear_vanished(self, adapter, move.command)  # else a stale rule would wake up for the next challenger
        aliases = self.aliases(adapter)
        before = aliases.get(alias)
        if alias == CHAMPION and before not in (None, version):
            aliases[PREVIOUS] = before
        aliases[alias] = version
        aliases.pop(drop or "", None)
        record(
            self,
            adapter,
            replace(
                move,
                alias=alias,
                before=before,
                after=version,
                study=move.study or found.study,
                trial=move.trial or found.trial,
                forced=move.forced or found.forced,
                gates=move.gates or found.gates,
            ),
        )
        path = self.file(adapter, ALIASES_NAME)
        try:
            write_json(path, aliases)
        except OSError as error:
            raise RaytuneError(f"{path}: {error.strerror}; {alias} stays where it was") from error
        if move.action == "canary_end":
            remove_rule(self, adapter)

    def resolve(self, reference: str) -> Resolved:
        """Finds `movies` (its champion), `movies@3` or `movies@challenger`.

        Raises:
            InputError: A name breaks the rule, or there is no such adapter, alias or version.
        """
        adapter, marked, which = reference.partition("@")
        check_name("adapter", adapter)
        if _VERSION.fullmatch(which):
            version = int(which)
        else:
            alias = which if marked else CHAMPION
            pointed = self.alias(adapter, alias)
            if pointed is None:
                known = ", ".join(self.adapters()) or "none"
                remedy = "promote a run" if alias in (CHAMPION, CHALLENGER) else "write name@3 or name@champion"
                raise InputError(adapter, f"has no {alias} in {self.location} (adapters: {known})", remedy)
            version = pointed
        return Resolved(adapter, version, self.path(adapter, version))

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


def check_alias(alias: str) -> str:
    """Returns an alias that can be moved, or raises an InputError."""
    check_name("alias", alias)
    if alias not in (CHAMPION, CHALLENGER):
        what = "is kept by the registry itself" if alias == PREVIOUS else "is no alias"
        raise InputError("alias", f"{alias!r} {what}", f"use {CHAMPION} or {CHALLENGER}")
    return alias
