"""Verb `evaluate`: compares base and winner on rows that no trial saw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raytune_ft.cli.output import console, emit, out, say


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run directory, e.g. runs/quickstart.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. evaluate.batch_size=4; repeatable."),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Use the run also where somebody else made it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare base and winner on the test split, with a confidence interval of the difference."""
    from raytune_ft import api
    from raytune_ft.paths import RunDirectory
    from raytune_ft.reporting.read import read_evaluation
    from raytune_ft.reporting.terminal.leaderboard import comparison_table

    directory = RunDirectory(run.resolve())
    result = api.evaluate(directory, say, trust=trust, overrides=overrides or ())

    def text() -> None:
        console.print(comparison_table(read_evaluation(directory)))
        out(f"next: raytune-ft promote {run}")

    emit(result, as_json, text)
