"""Reads a run directory's files into the values of `records`; the only place in `reporting` that opens them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.metrics.report import with_metrics
from raytune_ft.paths import RunDirectory, TrialDirectory, read_json
from raytune_ft.reporting.records import (
    CurvePoint,
    DataFacts,
    Ending,
    Evaluation,
    Leaderboard,
    PlanFile,
    Spending,
    TrialRecord,
    Winner,
)
from raytune_ft.training.progress import read_progress

T = TypeVar("T")


def open_run(path: Path) -> RunDirectory:
    """Returns the run directory at `path`.

    Raises:
        InputError: There is no run directory.
    """
    run = RunDirectory(path)
    if not run.experiment.is_file():
        raise InputError(str(path), "not a run directory (no experiment.yaml)", "give the directory that sweep printed")
    return run


def read_leaderboard(run: RunDirectory) -> Leaderboard:
    """Reads leaderboard.json; raises InputError while the sweep has not written it."""
    return _read(run.leaderboard, Leaderboard, "the sweep writes it when it ends; see `raytune-ft status`")


def read_winner(run: RunDirectory) -> Winner:
    """Reads winner.json; raises InputError where no trial has won."""
    return _read(run.winner, Winner, "the sweep writes it when a trial has a result; see `raytune-ft status`")


def read_evaluation(run: RunDirectory) -> Evaluation:
    """Reads evaluation.json; raises InputError where the winner was not evaluated."""
    return _read(run.evaluation, Evaluation, f"run `raytune-ft evaluate {run.root}`")


def read_data_facts(run: RunDirectory) -> DataFacts:
    """Reads data/manifest.json; raises InputError where the data was never prepared."""
    return _read(run.data / "manifest.json", DataFacts, "the sweep writes it when it prepares the data")


def read_plan(run: RunDirectory) -> PlanFile:
    """Reads plan.json; raises InputError where the sweep has not begun."""
    return _read(run.plan, PlanFile, "the sweep writes it when it begins")


def read_spending(run: RunDirectory) -> Spending:
    """Reads spent.json; raises InputError where the sweep has not begun."""
    return _read(run.spent, Spending, "the sweep writes it with each report")


def read_trials(run: RunDirectory) -> tuple[TrialRecord, ...]:
    """Returns every trial that was started, ordered by id."""
    if not run.trials.is_dir():
        return ()
    directories = (TrialDirectory(path) for path in sorted(run.trials.iterdir()))
    return tuple(_read_trial(directory) for directory in directories if directory.config.is_file())


def _read_trial(directory: TrialDirectory) -> TrialRecord:
    config = read_json(directory.config)
    parameters = config.get("parameters") if isinstance(config, dict) else None
    if not isinstance(parameters, dict):
        raise IntegrityError(f"{directory.config}: parameters: missing; remove the trial and run the sweep again")
    files = (directory.config, directory.metrics, directory.progress, directory.outcome)
    alive = [path.stat().st_mtime for path in files if path.is_file()]
    return TrialRecord(
        trial=directory.root.name,
        parameters=parameters,
        points=_read_points(directory.metrics),
        ending=_read(directory.outcome, Ending, "") if directory.outcome.is_file() else None,
        started=alive[0],
        touched=max(alive),
        progress=read_progress(directory.progress),
    )


def _read_points(path: Path) -> tuple[CurvePoint, ...]:
    """Returns the reports of a trial; a last line without its newline is still being written, and is left out."""
    if not path.is_file():
        return ()
    text = path.read_text(encoding="utf-8", errors="replace")
    points: list[CurvePoint] = []
    adapter = TypeAdapter(CurvePoint)
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
        try:
            points.append(adapter.validate_python(with_metrics(json.loads(line))))
        except ValueError as error:
            raise IntegrityError(f"{path}:{number}: {_first_problem(error)}; the file was changed or cut") from error
    return tuple(points)


def _read(path: Path, kind: type[T], remedy: str) -> T:
    if not path.is_file():
        raise InputError(str(path), "no such file", remedy)
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except ValidationError as error:
        raise IntegrityError(f"{path}: {_first_problem(error)}; run the step that wrote it again") from error


def _first_problem(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return f"not JSON ({error})"
    problem = error.errors()[0]
    return ".".join(str(part) for part in problem["loc"]) + ": " + problem["msg"]
