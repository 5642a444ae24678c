"""Verbs of the registry: promote, adapters, rollback."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from raytune_ft.cli.output import console, emit

DEFAULT_REGISTRY = Path("registry")
RegistryOption = Annotated[Path, typer.Option(help="Directory of adapters.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def promote(
    run: Annotated[Path, typer.Argument(help="The run's directory, e.g. runs/quickstart.")],
    registry: Annotated[Path | None, typer.Option(help="Directory of adapters; by default the experiment's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote even if no gain over the base is shown.")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Use the run also where somebody else made it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the winner of a run the champion that is served."""
    from raytune_ft import api

    done = api.promote(run, registry=registry, require_gain=not force, trust=trust)

    def text() -> None:
        before = f", before it {done.previous}" if done.previous else ""
        console.print(f"{done.adapter}@{done.version} is {done.alias} now{before}", markup=False)
        console.print(
            f"gain over the base: {done.gain}" + (" (not shown; forced)" if done.forced else ""), markup=False
        )
        console.print(f"{done.path}", markup=False, soft_wrap=True)

    emit({**asdict(done), "path": str(done.path)}, as_json, text)


def adapters(
    registry: RegistryOption = DEFAULT_REGISTRY,
    as_json: AsJson = False,
) -> None:
    """List the adapters, their versions and aliases."""
    from raytune_ft.registry.listing import list_versions
    from raytune_ft.registry.store import Registry

    rows = list_versions(Registry(registry))

    def text() -> None:
        from rich.table import Table

        if not rows:
            console.print(f"{registry}: no adapters yet; raytune-ft promote RUN adds one", markup=False)
            return
        table = Table("adapter", "version", "aliases", "base", "metric", "gain", "created")
        for row in rows:
            table.add_row(*_cells(asdict(row)))
        console.print(table)

    emit([asdict(row) for row in rows], as_json, text)


def rollback(
    adapter: Annotated[str, typer.Argument(help="The adapter's name.")],
    registry: RegistryOption = DEFAULT_REGISTRY,
    as_json: AsJson = False,
) -> None:
    """Point an adapter's champion back to the version before."""
    from raytune_ft.registry.store import Registry

    version = Registry(registry).rollback(adapter)
    emit(
        {"adapter": adapter, "champion": version},
        as_json,
        lambda: console.print(f"{adapter}@{version} is champion again", markup=False),
    )


def _cells(row: dict[str, Any]) -> list[str]:
    gain = row["gain"]
    return [
        row["adapter"], str(row["version"]), " ".join(row["aliases"]), row["base_model"], row["metric"] or "-",
        f"{gain['mean']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]" if gain else "-", row["created"],
    ]  # fmt: skip
