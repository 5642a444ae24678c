"""Verb `monitor`: checks an endpoint's requests for drift from the training data."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from raytune_ft.cli.output import console, emit, out, say


def monitor(
    log_dir: Annotated[Path, typer.Argument(help="The endpoint's log directory, e.g. serve_log.")],
    run: Annotated[Path, typer.Option("--run", help="The run whose winner is served, e.g. runs/quickstart.")],
    sample: Annotated[int, typer.Option(help="Logged requests to draw.", min=1)] = 200,
    since: Annotated[datetime | None, typer.Option(help="Leave out earlier requests; UTC.")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Version that scores, e.g. movies@champion; by default the run's winner.")
    ] = None,
    registry: Annotated[Path | None, typer.Option(help="Directory of adapters; by default the experiment's.")] = None,
    no_model: Annotated[bool, typer.Option("--no-model", help="Leave out perplexity, which loads the model.")] = False,
    fail_on_drift: Annotated[bool, typer.Option("--fail-on-drift", help="Exit 1 when something drifted.")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Use the run also where somebody else made it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare logged requests with the training data: length, vocabulary, the model's own perplexity."""
    from raytune_ft.monitoring.monitor import check_drift
    from raytune_ft.ownership import check_own
    from raytune_ft.paths import RunDirectory

    directory = RunDirectory(run.resolve())
    check_own(directory, trust=trust)
    report = check_drift(
        log_dir, directory, sample=sample, since=since, model=not no_model, version=adapter, registry=registry, log=say
    )

    def text() -> None:
        from rich import box
        from rich.table import Table

        table = Table("measure", "requests", "training", "limit", "chance", "verdict", box=box.SIMPLE_HEAD)
        for each in report.measures:
            limit = f"x{each.limit:g}" if each.name.endswith("perplexity") else f"+{each.limit:g}"
            verdict = "drift" if each.drift else "as trained"
            table.add_row(each.name, f"{each.value:.4g}", f"{each.training:.4g}", limit, f"{each.sure:.3f}", verdict)
        console.print(table)
        out(f"{report.compared} of {report.logged} requests to {report.adapter}, {report.training_rows} training rows")
        for reason, count in sorted(report.left_out.items()):
            out(f"  left out {count}: {reason}")
        out("drift: a value this far above training has a chance of at most 0.01 without drift, and is over the limit")

    emit(report.to_json(), as_json, text)
    if fail_on_drift and report.drift:
        raise typer.Exit(1)
