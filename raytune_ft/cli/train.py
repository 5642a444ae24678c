"""Verbs `train` and `sweep`: one configuration, or the search for the best."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raytune_ft.cli.experiment import Overrides
from raytune_ft.cli.output import console, emit, log, out, say

if TYPE_CHECKING:
    from raytune_ft.config.experiment import Experiment
    from raytune_ft.search.sweep import SweepResult

ExperimentFile = Annotated[Path, typer.Argument(help="Experiment file.")]
Trust = Annotated[bool, typer.Option("--trust", help="Use the run directory also where somebody else made it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def train(
    experiment: ExperimentFile,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Train one configuration, without a search."""
    from raytune_ft import api
    from raytune_ft.reporting.terminal.live import LiveTable
    from raytune_ft.search.single import train_once

    loaded = api.load_experiment(experiment, overrides or [])
    _leave_models_to_workers(loaded)
    api.check_inputs(loaded, say)
    with LiveTable(1, loaded.model_copy(update={"search": None}).goals[0], log) as table:
        result = train_once(loaded, table, resume=resume, trust=trust, log=say)
    show(result, as_json)


def sweep(
    experiment: ExperimentFile,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study that is there.")] = False,
    extend: Annotated[
        int, typer.Option("--extend", min=0, help="Go on with it, and with so many trials more than it holds.")
    ] = 0,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Search for the best configuration."""
    from raytune_ft import api

    loaded = api.load_experiment(experiment, overrides or [])
    _leave_models_to_workers(loaded)
    if resume or extend:
        loaded = api.go_on(loaded, extend, trust=trust)
    options = ["--resume", *(["--trust"] if trust else [])]
    settings = (f"--set {shlex.quote(item)}" for item in overrides or [])
    again = " ".join(["raytune-ft sweep", *options, shlex.quote(str(experiment)), *settings])
    show(sweep_with_table(loaded, resume=resume or extend > 0, trust=trust, again=again), as_json)


def sweep_with_table(experiment: Experiment, *, resume: bool, again: str, trust: bool = False) -> SweepResult:
    """Runs the sweep under a live table; after Ctrl-C, says what to type to go on; where nothing won, shows why."""
    from raytune_ft import api
    from raytune_ft.errors import InputError, LanesLost
    from raytune_ft.reporting.causes import causes_table
    from raytune_ft.reporting.terminal.live import LiveTable, ended_before
    from raytune_ft.search.results.causes import NothingWon

    if experiment.search is None:
        raise InputError("search", "missing", "add a search section, or use raytune-ft train")
    try:
        goal = experiment.goals[0]
        before = ended_before(experiment.run_directory, goal) if resume else {}
        with LiveTable(experiment.search.trials, goal, log, before) as table:
            return api.run_sweep(experiment, resume=resume, trust=trust, listener=table, log=say)
    except NothingWon as error:
        log.print(causes_table(error.causes))
        raise
    except LanesLost as error:
        raise LanesLost(error.where, error.what, f"to go on: {again}") from None
    except KeyboardInterrupt:
        say(f"stopped; finished trials are kept. To go on: {again}")
        raise


def _leave_models_to_workers(experiment: Experiment) -> None:
    """This process imports transformers without PyTorch, unless the tokenizer has code of its own that may want it."""
    from raytune_ft.lean_imports import run_no_model

    if not experiment.trust_remote_code:
        run_no_model()


def show(result: SweepResult, as_json: bool) -> None:
    """The leaderboard, and what to type next."""
    from raytune_ft.data.prepared import open_prepared
    from raytune_ft.paths import read_json, shown_path
    from raytune_ft.reporting.read import read_leaderboard
    from raytune_ft.reporting.terminal.leaderboard import leaderboard_table
    from raytune_ft.reporting.wording import goals_in_words

    run = result.run.root
    shown = shown_path(run)

    def text() -> None:
        board = read_leaderboard(result.run)
        console.print(leaderboard_table(board))
        won = goals_in_words(result.winner.values) if board.further else f"{result.winner.value:.4f}"
        out(f"winner: trial {result.winner.trial}, {won} at step {result.winner.step}")
        if not open_prepared(result.run.data).sizes:  # a custom trainer's run
            out(f"its checkpoint: {result.run.root / (result.winner.checkpoint or '')}")
        elif (result.run.data / "test").is_dir():
            out(f"next: raytune-ft evaluate {shown}")
        else:
            out("next: add data.test, rows that no trial sees: without it nothing proves the winner")

    emit(read_json(result.run.leaderboard) | {"run": str(run), "winner": result.winner.trial}, as_json, text)
