"""Verbs that show runs, also while they are going on: `status` and `compare`."""

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
    from raytune_ft.reporting.terminal.status import run_status, status_view

    seen = run_status(open_run(run))
    emit(asdict(seen), as_json, lambda: console.print(status_view(seen)))


def compare(
    first: Annotated[Path | None, typer.Argument(metavar="RUN_A", help="A run directory.")] = None,
    second: Annotated[Path | None, typer.Argument(metavar="RUN_B", help="Another run directory.")] = None,
    live: Annotated[
        str | None, typer.Option(metavar="ADAPTER", help="Compare the versions of ADAPTER that answer requests now.")
    ] = None,
    log_dir: Annotated[Path, typer.Option(help="With --live: the endpoint's log directory.")] = Path("serve_log"),
    since: Annotated[
        str | None, typer.Option(help="With --live: only so far back, e.g. 30m, 1h, 2d, or since an ISO time.")
    ] = None,
    registry: Annotated[Path, typer.Option(help="With --live: directory of adapters.")] = Path("registry"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show two studies side by side, or with --live how an adapter's versions answered an endpoint's requests."""
    from raytune_ft.errors import InputError

    if live is not None:
        if first is not None:
            raise InputError("--live", "compares versions, not runs", "leave the runs out")
        _compare_live(live, log_dir, since, registry, as_json)
        return
    if first is None or second is None:
        raise InputError("compare", "two runs are needed", "raytune-ft compare RUN_A RUN_B, or --live ADAPTER")
    from raytune_ft.reporting.comparison import compare_runs
    from raytune_ft.reporting.read import open_run
    from raytune_ft.reporting.terminal.comparison_view import comparison_view

    both = compare_runs(open_run(first), open_run(second))
    emit(asdict(both), as_json, lambda: console.print(comparison_view(both)))


def _compare_live(adapter: str, log_dir: Path, since: str | None, registry: Path, as_json: bool) -> None:
    from raytune_ft.errors import InputError
    from raytune_ft.registry.location import open_registry
    from raytune_ft.reporting.live_requests import compare_live, parse_since
    from raytune_ft.reporting.terminal.live_requests_view import live_view
    from raytune_ft.serving.records.records import read_records

    aliases = open_registry(registry).aliases(adapter)
    if not log_dir.is_dir():
        raise InputError(str(log_dir), "no such log directory", "name the one that serve --log-dir writes to")
    start = parse_since(since) if since else None
    found = compare_live(read_records(log_dir, start), adapter, aliases, start)
    emit(asdict(found), as_json, lambda: console.print(live_view(found)))
