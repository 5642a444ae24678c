"""What a run is doing, from its trials' files; works while the sweep runs and after it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raytune_ft.config.load import load_experiment
from raytune_ft.paths import RunDirectory
from raytune_ft.reporting.leaderboard import outcome_text
from raytune_ft.reporting.read import TrialRecord, read_leaderboard, read_trials
from raytune_ft.reporting.wording import OUTCOMES, duration, measure, number, one_line, parameter_names


@dataclass(frozen=True)
class RunningTrial:
    """A trial without an outcome, and how long it has been silent."""

    trial: str
    step: int | None
    eval_loss: float | None
    running_s: float
    silent_s: float
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Best:
    """The lowest value reported so far."""

    trial: str
    eval_loss: float
    step: int
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class RunStatus:
    """One look at a run."""

    experiment: str
    planned: int
    outcomes: Mapping[str, int]
    running: tuple[RunningTrial, ...]
    best: Best | None
    elapsed_s: float
    finished: bool
    """Whether the leaderboard has every trial; a sweep that was stopped leaves one with fewer."""


def run_status(run: RunDirectory, now: float | None = None) -> RunStatus:
    """Counts the trials by outcome and finds the running ones and the best so far.

    Args:
        run: The run directory.
        now: Unix time of the look; by default this moment.
    """
    now = time.time() if now is None else now
    experiment = load_experiment(run.experiment)
    planned = experiment.search.trials if experiment.search else 1
    trials = read_trials(run)
    counts = {outcome: sum(trial.outcome == outcome for trial in trials) for outcome in OUTCOMES}
    running = tuple(_running(trial, now) for trial in trials if trial.ending is None)
    began = min((trial.started for trial in trials), default=now)
    last = now if running else max((trial.touched for trial in trials), default=now)
    return RunStatus(
        experiment=experiment.name,
        planned=planned,
        outcomes={outcome: count for outcome, count in counts.items() if count},
        running=running,
        best=_best(trials),
        elapsed_s=max(0.0, last - began),
        finished=run.leaderboard.is_file() and len(read_leaderboard(run).rows) >= planned,
    )


def _running(trial: TrialRecord, now: float) -> RunningTrial:
    last = trial.points[-1] if trial.points else None
    return RunningTrial(
        trial=trial.trial,
        step=last.step if last else None,
        eval_loss=last.eval_loss if last else None,
        running_s=max(0.0, now - trial.started),
        silent_s=max(0.0, now - trial.touched),
        parameters=trial.parameters,
    )


def _best(trials: tuple[TrialRecord, ...]) -> Best | None:
    candidates = [
        Best(trial.trial, point.eval_loss, point.step, trial.parameters)
        for trial in trials
        for point in trial.points
        if point.eval_loss is not None and point.eval_loss == point.eval_loss
    ]
    return min(candidates, key=lambda best: best.eval_loss, default=None)


def status_view(status: RunStatus) -> RenderableType:
    """The status as text for a terminal."""
    ended = sum(count for outcome, count in status.outcomes.items() if outcome != "running")
    state = "finished" if status.finished else "not finished"
    count = f"{ended} of {status.planned} trials ended"
    lines = [Text(f"{status.experiment}: {state}, {count}, {duration(status.elapsed_s)}")]
    if status.outcomes:
        counts = [Text.assemble(f"{many} ", outcome_text(outcome)) for outcome, many in status.outcomes.items()]
        lines.append(Text("  ").join(counts))
    if status.best:
        names = parameter_names([status.best.parameters])
        settings = ", ".join(f"{names[key]} {number(value, 3)}" for key, value in status.best.parameters.items())
        where = f"trial {status.best.trial}, step {status.best.step}"
        lines.append(Text(one_line(f"best eval_loss {measure(status.best.eval_loss)} ({where}: {settings})")))
    if not status.running:
        return Group(*lines)
    table = Table(box=box.SIMPLE_HEAD)
    for header in ("running", "step", "eval_loss", "for", "last sign of life"):
        table.add_column(header, justify="left" if header == "running" else "right")
    for trial in status.running:
        ago = f"{duration(trial.silent_s)} ago"
        table.add_row(trial.trial, number(trial.step), measure(trial.eval_loss), duration(trial.running_s), ago)
    return Group(*lines, table)
