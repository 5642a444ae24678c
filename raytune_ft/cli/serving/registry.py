"""Verbs of the registry: promote, rollback, adapters, journal."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raytune_ft.cli.output import console, emit, say
from raytune_ft.reporting.wording import one_line

if TYPE_CHECKING:
    from raytune_ft.registry.store import Registry

DEFAULT_REGISTRY = Path("registry")
RegistryOption = Annotated[Path, typer.Option(help="Directory of adapters, or s3://bucket/prefix.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def promote(
    run: Annotated[Path | None, typer.Argument(help="The run's directory, e.g. runs/quickstart.")] = None,
    registry: Annotated[Path | None, typer.Option(help="Directory of adapters; by default the experiment's.")] = None,
    alias: Annotated[str, typer.Option("--as", help="What the winner becomes: champion or challenger.")] = "champion",
    from_canary: Annotated[
        str | None, typer.Option(metavar="ADAPTER", help="Make ADAPTER's challenger its champion and end the canary.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Write it into the base's weights; it is served as a model of its own.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Go on past the gates gain, retention and no_worse, or past a champion that moved."
        ),
    ] = False,
    skip: Annotated[
        list[str] | None, typer.Option(help="A gate that is not run: gain, retention, no_worse or parity; repeatable.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Use the run also where somebody else made it.")] = False,
    url: Annotated[
        str | None, typer.Option(help="A running endpoint, ending in /v1, that is asked whether it takes such a rank.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the winner of a run, or the challenger of a canary, the champion that is served."""
    from raytune_ft import api
    from raytune_ft.errors import InputError
    from raytune_ft.registry.store import check_alias

    if from_canary is not None:
        if run is not None or alias != "champion":
            raise InputError("--from-canary", "takes neither a RUN nor --as", "the challenger becomes the champion")
        _promote_from_canary(from_canary, registry or DEFAULT_REGISTRY, url, force, as_json)
        return
    if run is None:
        raise InputError("promote", "no run given", "raytune-ft promote RUN, or promote --from-canary ADAPTER")
    check_alias(alias)
    done = api.promote(
        run, registry=registry, alias=alias, merge=merge, force=force, skip=skip or (), trust=trust, log=say, url=url
    )

    def text() -> None:
        before = f", before it {done.previous}" if done.previous else ""
        console.print(f"{done.adapter}@{done.version} is {done.alias} now{before}", markup=False)
        refused = [name for name, gate in done.gates.items() if gate["passed"] is False]
        forced = f" (forced past {', '.join(refused)})" if refused else ""
        console.print(f"gain over the base: {done.gain}{forced}", markup=False)
        console.print(f"{done.path}", markup=False, soft_wrap=True)

    emit({**asdict(done), "path": str(done.path)}, as_json, text)


def adapters(
    registry: RegistryOption = DEFAULT_REGISTRY,
    as_json: AsJson = False,
) -> None:
    """List the adapters with their versions, aliases and shares of the requests."""
    from raytune_ft.registry.listing import list_versions
    from raytune_ft.registry.location import open_registry

    rows = list_versions(open_registry(registry))

    def text() -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        if not rows:
            console.print(f"{registry}: no adapters yet; raytune-ft promote RUN adds one", markup=False)
            return
        table = Table("adapter", "version", "aliases", "traffic", "base", "gain", "created", box=box.SIMPLE_HEAD)
        table.columns[0].no_wrap = table.columns[1].no_wrap = True
        table.columns[4].overflow = "fold"
        for row in rows:
            table.add_row(*map(Text, _cells(asdict(row))))
        console.print(table)

    emit([asdict(row) for row in rows], as_json, text)


def rollback(
    adapter: Annotated[str, typer.Argument(help="The adapter's name.")],
    to: Annotated[int | None, typer.Option(min=1, help="A version; by default the one before.")] = None,
    registry: RegistryOption = DEFAULT_REGISTRY,
    as_json: AsJson = False,
) -> None:
    """Point an adapter's champion back to the version before; a second rollback undoes it."""
    from raytune_ft.registry.journal import Move
    from raytune_ft.registry.location import open_registry

    command = f"raytune-ft rollback {adapter}" + (f" --to {to}" if to else "")
    version = open_registry(registry).rollback(adapter, to, move=Move(command=command))
    emit(
        {"adapter": adapter, "champion": version},
        as_json,
        lambda: console.print(f"{adapter}@{version} is champion again", markup=False),
    )


def open_with(adapter: str, registry: Path) -> Registry:
    """Opens the registry; raises InputError if it has no such adapter."""
    from raytune_ft.errors import InputError
    from raytune_ft.registry.location import open_registry

    opened = open_registry(registry)
    if not opened.versions(adapter):
        raise InputError(adapter, f"no such adapter in {registry}", "see raytune-ft adapters")
    return opened


def journal(
    adapter: Annotated[str, typer.Argument(help="The adapter's name.")],
    last: Annotated[int | None, typer.Option(min=1, help="Only so many, the newest.")] = None,
    registry: RegistryOption = DEFAULT_REGISTRY,
    as_json: AsJson = False,
) -> None:
    """Show who moved which of an adapter's aliases and its traffic, when, and from which study."""
    from raytune_ft.registry.journal import read_journal, unsettled

    opened = open_with(adapter, registry)
    moves = read_journal(opened, adapter)[-(last or 0) :]
    left = unsettled(opened, adapter)

    def text() -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table("time (UTC)", "who", "action", "alias", "from", "to", "study", "command", box=box.SIMPLE_HEAD)
        table.columns[0].no_wrap = True
        for move in moves:
            action = f"{move.action} (forced)" if move.forced and move.action == "promote" else move.action
            study = f"{move.study}, trial {move.trial}" if move.study else None
            cells = (
                _minute(move.time), move.who, action, move.alias, _place(move.before), _place(move.after), study,
                move.command,
            )  # fmt: skip
            table.add_row(*(Text(one_line(str(cell or "-"))) for cell in cells))
        console.print(table)
        if left is not None:
            console.print("the last move was not carried out: its process ended before", markup=False)

    emit([move.to_json() for move in moves], as_json, text)


def _promote_from_canary(adapter: str, registry: Path, url: str | None, force: bool, as_json: bool) -> None:
    from raytune_ft.errors import RaytuneError
    from raytune_ft.promotion.endpoint_capacity import warn_of_room
    from raytune_ft.registry.compared import ChampionMovedError
    from raytune_ft.registry.journal import Move
    from raytune_ft.registry.location import open_registry

    move = Move(command=f"raytune-ft promote --from-canary {adapter}" + " --force" * force)
    opened = open_registry(registry)
    try:
        version, before = opened.end_canary(adapter, force=force, move=move)
    except ChampionMovedError as moved:
        remedy = "promote its run --as challenger again, or go past it with --force"
        raise RaytuneError(f"{moved}; nothing was changed; {remedy}") from moved
    warn_of_room(opened, adapter, version, before, url, say)
    emit(
        {"adapter": adapter, "version": version, "alias": "champion", "previous": before},
        as_json,
        lambda: console.print(
            f"{adapter}@{version} is champion now" + (f", before it {before}" if before else "") + "; the canary ended",
            markup=False,
        ),
    )


def _cells(row: dict[str, Any]) -> list[str]:
    gain, kind = row["gain"], " full" if row["full"] else " merged" if row["merged"] else ""
    return [
        row["adapter"], f"{row['version']}{kind}", " ".join(row["aliases"]), _share(row),
        row["base_model"],
        f"{row['metric']} {gain['mean']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]" if gain else "-",
        _minute(row["created"]),
    ]  # fmt: skip


def _share(row: dict[str, Any]) -> str:
    """Returns a version's share of the requests, such as `10 % of users`; "" if it is only asked by its number."""
    if row["shadow"]:
        return f"{row['shadow']} % in the shadow"
    of_users = " of users" if row["by"] == "user" and row["traffic"] < 100 else ""
    return f"{row['traffic']} %{of_users}" if row["traffic"] else ""


def _minute(time: str) -> str:
    """Shortens an ISO time to minutes, such as `2026-01-31 12:00`."""
    return time[:16].replace("T", " ")


def _place(value: Any) -> str | None:
    """Returns a version's number, or the shares of a traffic rule, as text."""
    if not isinstance(value, dict):
        return None if value is None else str(value)
    shares = " ".join(f"{alias} {share}" for alias, share in dict(value.get("shares") or {}).items())
    kind = " shadow" if value.get("shadow") else " by user" if value.get("by") == "user" else ""
    return shares + kind
