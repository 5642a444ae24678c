"""A run directory's files as typed values; the only place in `reporting` that opens them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.paths import RunDirectory, TrialDirectory, read_json
from raytune_ft.search.planning.span import Span

RUNNING = "running"
"""Stands for the outcome of a trial that has none yet."""

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One trial of the leaderboard; `rank` and `value` are None where the trial has no result."""

    rank: int | None
    trial: str
    value: float | None
    outcome: str
    reason: str = ""
    step: int | None = None
    seconds: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    """Of every goal, by its name."""
    front: bool = False
    """Whether no other trial is as good in every goal and better in one."""


@dataclass(frozen=True)
class Goal:
    """What counts, and whether `min` or `max` of it is wanted."""

    name: str
    mode: str = "min"


@dataclass(frozen=True)
class Leaderboard:
    """All trials, the best first."""

    experiment: str
    metric: str
    mode: str
    rows: tuple[Row, ...]
    metrics: tuple[Goal, ...] = ()
    rule: str = ""
    """By what the first one won, in words."""

    @property
    def further(self) -> tuple[Goal, ...]:
        """The goals after the first."""
        return self.metrics[1:]


@dataclass(frozen=True)
class Point:
    """One report of a trial."""

    step: int
    train_loss: float | None = None
    eval_loss: float | None = None
    seconds: float | None = None
    samples: int | None = None
    tokens: int | None = None
    time: str | None = None
    memory_mib: float | None = None
    adapter_mib: float | None = None


@dataclass(frozen=True)
class Ending:
    """What `outcome.json` says."""

    outcome: str
    reason: str = ""
    step: int | None = None
    value: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class TrialRecord:
    """One trial's directory; `ending` is None while it runs."""

    trial: str
    parameters: Mapping[str, Any]
    points: tuple[Point, ...]
    ending: Ending | None
    started: float
    """Unix time at which the trial's configuration was written."""
    touched: float
    """Unix time of its last sign of life."""

    @property
    def outcome(self) -> str:
        return self.ending.outcome if self.ending else RUNNING


@dataclass(frozen=True)
class Winner:
    """The best trial and where its adapter lies, relative to the run."""

    trial: str
    parameters: Mapping[str, Any]
    metric: str
    value: float
    adapter: str
    base_model: str
    data_fingerprint: str
    step: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    rule: str = ""


@dataclass(frozen=True)
class Interval:
    """Winner minus base, with its bootstrap interval."""

    mean: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class Example:
    """One test row and what both systems answered."""

    prompt: str
    expected: str
    base: str | None = None
    winner: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """Base against winner on a split that no trial saw."""

    split: str
    rows: int
    metrics: tuple[str, ...]
    systems: Mapping[str, Mapping[str, float]]
    difference: Mapping[str, Interval]
    labels: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Split:
    """Size and origin of one split."""

    rows: int
    tokens: int | None = None
    source: str = ""
    dropped: int = 0


@dataclass(frozen=True)
class DataFacts:
    """What `data/manifest.json` says of the rows."""

    fingerprint: str
    form: str
    splits: Mapping[str, Split]
    duplicates: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Foreseen:
    """What a sweep was thought to take."""

    memory_mib: Span | None = None
    hours: Span | None = None
    device_hours: Span | None = None
    tokens: Span | None = None
    cost: Span | None = None


@dataclass(frozen=True)
class PlanFile:
    """What `plan.json` says, before the sweep and after its first rung."""

    planned: Foreseen
    after_first_rung: Foreseen | None = None


@dataclass(frozen=True)
class Spending:
    """What `spent.json` says; `closed` is why the study was closed for good."""

    hours: float = 0.0
    device_hours: float = 0.0
    tokens: int = 0
    cost: float | None = None
    closed: str | None = None


def open_run(path: Path) -> RunDirectory:
    """The run directory at `path`.

    Raises:
        InputError: When it isn't one.
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
    """Every trial that was started, by its id."""
    if not run.trials.is_dir():
        return ()
    directories = (TrialDirectory(path) for path in sorted(run.trials.iterdir()))
    return tuple(_read_trial(directory) for directory in directories if directory.config.is_file())


def _read_trial(directory: TrialDirectory) -> TrialRecord:
    config = read_json(directory.config)
    parameters = config.get("parameters") if isinstance(config, dict) else None
    if not isinstance(parameters, dict):
        raise IntegrityError(f"{directory.config}: parameters: missing; remove the trial and run the sweep again")
    files = (directory.config, directory.metrics, directory.outcome)
    alive = [path.stat().st_mtime for path in files if path.is_file()]
    return TrialRecord(
        trial=directory.root.name,
        parameters=parameters,
        points=_read_points(directory.metrics),
        ending=_read(directory.outcome, Ending, "") if directory.outcome.is_file() else None,
        started=alive[0],
        touched=max(alive),
    )


def _read_points(path: Path) -> tuple[Point, ...]:
    """The reports of a trial; a last line without its newline is still being written and is left out."""
    if not path.is_file():
        return ()
    text = path.read_text(encoding="utf-8", errors="replace")
    points: list[Point] = []
    adapter = TypeAdapter(Point)
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
        try:
            points.append(adapter.validate_python(json.loads(line)))
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
