"""`raytune-ft portfolio`: chooses configurations to try first from earlier studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raytune_ft.cli.output import console, emit, out, say

if TYPE_CHECKING:
    from raytune_ft.config.search.portfolio import PortfolioFile

app = typer.Typer(
    help="Configurations to try first, out of earlier studies.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _group() -> None:
    """Choose configurations to try first from earlier studies."""


@app.command()
def build(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Run directories of finished sweeps.")],
    to: Annotated[Path, typer.Option("--to", help="File to write; an earlier portfolio there is replaced.")],
    size: Annotated[int, typer.Option("--size", min=1, help="Configurations at most.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Choose configurations that together do well on all data sets of the runs, and write them in order."""
    from raytune_ft.search.earlier_studies.portfolio_build import build_portfolio, write_portfolio

    built = build_portfolio(runs, size)
    write_portfolio(built.portfolio, to)
    for warning in built.warnings:
        say(f"warning: {warning}")
    emit(built.portfolio.model_dump(mode="json"), as_json, lambda: _print(built.portfolio, to))


def _print(portfolio: PortfolioFile, to: Path) -> None:
    from rich import box
    from rich.table import Table

    from raytune_ft.reporting.wording import number, parameter_names

    configurations = [entry.parameters for entry in portfolio.configurations]
    named = {key: name.removeprefix("per_device_") for key, name in parameter_names(configurations).items()}
    same = {key for key, value in configurations[0].items() if all(each[key] == value for each in configurations)}
    names = {key: name for key, name in named.items() if key not in same}
    table = Table(box=box.SIMPLE_HEAD)
    for header in ("order", *names.values(), "mean regret"):
        table.add_column(header, justify="right")
    table.add_column("helps most")
    for order, entry in enumerate(portfolio.configurations, 1):
        values = (number(entry.parameters.get(key), 3) for key in names)
        table.add_row(str(order), *values, f"{entry.covered:.3f}", entry.helped or "(in reserve)")
    console.print(table)
    out(
        "in all of them: "
        + ", ".join(f"{named[key]} {number(configurations[0][key], 3)}" for key in named if key in same)
    )
    data = ", ".join(dict.fromkeys(study.data for study in portfolio.studies))
    out(f"wrote {to}: {len(portfolio.configurations)} configurations, from {data}")
