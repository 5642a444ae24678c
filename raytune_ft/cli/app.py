"""The command: registers the verbs, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import typer

from raytune_ft import __version__
from raytune_ft.cli import assets, cluster, evaluate, experiment, plan, portfolio, quickstart, report, status, train
from raytune_ft.cli.serving import canary, feedback, keys, monitor, registry, serve
from raytune_ft.errors import RaytuneError

DEBUG_VARIABLE = "RAYTUNE_FT_DEBUG"

app = typer.Typer(
    help="Search, prove and serve fine-tuned language models on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(assets.app, name="assets")
app.add_typer(portfolio.app, name="portfolio")
app.add_typer(keys.app, name="keys")
VERBS: dict[str, Callable[..., None]] = {
    "quickstart": quickstart.quickstart,
    "init": experiment.init,
    "check": experiment.check,
    "plan": plan.plan,
    "train": train.train,
    "sweep": train.sweep,
    "status": status.status,
    "report": report.report,
    "evaluate": evaluate.evaluate,
    "compare": status.compare,
    "promote": registry.promote,
    "rollback": registry.rollback,
    "adapters": registry.adapters,
    "canary": canary.canary,
    "journal": registry.journal,
    "serve": serve.serve,
    "chat": serve.chat,
    "feedback": feedback.feedback,
    "monitor": monitor.monitor,
    "submit": cluster.submit,
    "dashboard": report.dashboard,
    "doctor": cluster.doctor,
}
for name, verb in VERBS.items():
    app.command(name)(verb)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"raytune-ft {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error; stands before the verb."),
    version: bool = typer.Option(False, "--version", callback=_say_version, is_eager=True, help="Print the version."),
) -> None:
    """Search, prove and serve fine-tuned language models on Ray."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def main() -> None:
    """Console entry point. Exit codes: 0 done, 1 the run failed, 2 the input is wrong, 130 stopped by the user."""
    # DeepSpeed looks for ninja on PATH only, where it is missing if the environment is not activated.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    try:
        app()
    except RaytuneError as error:
        _show(error, *(f"error: {line}" for line in str(error).splitlines()))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _show(None, "stopped by the user")
        sys.exit(130)


def _show(error: BaseException | None, *lines: str) -> None:
    if error is not None and os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    for line in lines:
        print(line, file=sys.stderr)
