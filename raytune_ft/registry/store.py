"""The registry's directory: finds adapters, versions and aliases, and moves aliases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.names import check_name
from raytune_ft.paths import write_json
from raytune_ft.registry import manifest
from raytune_ft.registry.compared import check_compared, compared_in
from raytune_ft.registry.files import ALIASES_NAME, PREVIOUS, VERSION, AdapterFiles
from raytune_ft.registry.journal import Move, record
from raytune_ft.registry.traffic import CHALLENGER, CHAMPION, clear_vanished, remove_rule

ALIASES = (CHAMPION, CHALLENGER, PREVIOUS)


@dataclass(frozen=True)
class Resolved:
    """One version of one adapter, and its directory."""

    adapter: str
    version: int
    path: Path

    @property
    def reference(self) -> str:
        return f"{self.adapter}@{self.version}"


class Registry(AdapterFiles):
    """The adapters' files, and every move of their aliases."""

    def set_alias(self, adapter: str, alias: str, version: int, *, move: Move | None = None) -> int | None:
        """Verifies the files of a version and moves `champion` or `challenger` to it.

        Args:
            adapter: The adapter's name.
            alias: `champion` or `challenger`.
            version: The version that it points to from now on.
            move: The journal entry; study, trial, gates and force default to the manifest's.

        Returns:
            The version that the alias pointed to before, or None.
        """
        check_alias(alias)
        with self.lock(adapter):
            before = self.alias(adapter, alias)
            self.point(adapter, alias, version, move or Move())
        return before

    def rollback(self, adapter: str, to: int | None = None, *, move: Move | None = None) -> int:
        """Moves `champion` back to `previous`, or to the version `to`, and returns that; a second rollback undoes it.

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
            force: Do it even if the champion is no longer the one that the challenger was compared with.
            move: The journal entry.

        Returns:
            The versions of the new champion and of the one before.

        Raises:
            ChampionMovedError: The champion is no longer that one; nothing was changed.
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
        """Verifies a version, writes the journal, then moves the alias to it by writing `aliases.json`.

        The caller holds the lock.
        """
        found = manifest.read(self.verified(adapter, version))
        clear_vanished(self, adapter, move.command)  # otherwise a stale rule would apply to the next challenger
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
            InputError: A name is invalid, or there is no such adapter, alias or version.
        """
        adapter, marked, which = reference.partition("@")
        check_name("adapter", adapter)
        if VERSION.fullmatch(which):
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


def check_alias(alias: str) -> str:
    """Returns the alias if it is one that can be moved; raises an InputError otherwise."""
    check_name("alias", alias)
    if alias not in (CHAMPION, CHALLENGER):
        what = "is kept by the registry itself" if alias == PREVIOUS else "is no alias"
        raise InputError("alias", f"{alias!r} {what}", f"use {CHAMPION} or {CHALLENGER}")
    return alias
