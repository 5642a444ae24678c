"""Verbs that look at runs from outside: `status` and `compare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from raytune_ft.cli.output import console, emit


def status(
    run: Annotated[Path, typer.Argument(help="The run directory, e.g. runs/quickstart.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a run is doing: trials by outcome, the running ones, the best so far."""
    from raytune_ft.reporting.read import open_run
    from raytune_ft.reporting.status import run_status, status_view

    seen = run_status(open_run(run))
    emit(asdict(seen), as_json, lambda: console.print(status_view(seen)))


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run directory.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another run directory.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show two studies side by side: settings, outcomes, the way to the best, and whether their numbers compare."""
    from raytune_ft.reporting.comparison import compare_runs
    from raytune_ft.reporting.comparison_view import comparison_view
    from raytune_ft.reporting.read import open_run

    both = compare_runs(open_run(first), open_run(second))
    emit(asdict(both), as_json, lambda: console.print(comparison_view(both)))
