"""Verbs that show a finished search: `report` and `dashboard`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from raytune_ft.cli.output import emit, say

Trust = Annotated[bool, typer.Option("--trust", help="Use the run directory also where somebody else made it.")]


def report(
    run: Annotated[Path, typer.Argument(help="The run directory, e.g. runs/quickstart.")],
    trust: Trust = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the sweep into this .png or .svg instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write one self-contained HTML file: history, curves, importances, base against winner."""
    from raytune_ft.ownership import check_own
    from raytune_ft.reporting.html.html import write_report
    from raytune_ft.reporting.html.picture import write_picture
    from raytune_ft.reporting.plan_truth import plan_against_truth
    from raytune_ft.reporting.read import open_run

    opened = open_run(run)
    check_own(opened, trust=trust)
    path = write_picture(opened, plot) if plot else write_report(opened)
    values = {"plot" if plot else "report": str(path)}
    lines = {line.name: asdict(line) for line in plan_against_truth(opened)}
    emit(values | ({"plan_truth": lines} if lines else {}), as_json, lambda: typer.echo(str(path)))


def dashboard(
    run: Annotated[Path, typer.Argument(help="The run directory, e.g. runs/quickstart.")],
    trust: Trust = False,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Browse the run's study in optuna-dashboard until Ctrl-C."""
    from raytune_ft.ownership import check_own
    from raytune_ft.reporting.dashboard import serve_dashboard
    from raytune_ft.reporting.read import open_run
    from raytune_ft.serving.settings import is_loopback

    opened = open_run(run)
    check_own(opened, trust=trust)
    if not is_loopback(host):
        say(f"warning: {host} is not loopback and the dashboard has no password; whoever reaches it can edit the study")
    serve_dashboard(opened, host, port, lambda url: say(f"dashboard at {url}, Ctrl-C stops it"))
