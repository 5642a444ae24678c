"""Reads an earlier study from its run directory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from raytune_ft.config.files.overrides import value_at, with_settings
from raytune_ft.config.objectives.choice import DEFAULT
from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.metrics.named import EVAL_LOSS
from raytune_ft.metrics.report import value_in
from raytune_ft.paths import RunDirectory, TrialDirectory, read_json
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind


@dataclass(frozen=True)
class EarlierTrial:
    """One trial that ended.

    Attributes:
        name: The name of the trial's directory.
        parameters: The settings that the study's space chose, key path -> value.
        kind: How the trial ended.
        curve: Step -> value of the study's first metric, finite ones only.
        last: The last report with such a value.
    """

    name: str
    parameters: dict[str, Any]
    kind: OutcomeKind
    curve: dict[int, float] = field(default_factory=dict)
    last: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EarlierStudy:
    """A study and its trials.

    Attributes:
        root: The run directory.
        experiment: The resolved experiment, as plain values.
        metric: Name of the study's first metric.
        mode: Whether `min` or `max` of it is wanted.
        fingerprint: Hash of the prepared data; empty where no data was prepared.
        trials: The trials that ended, in the order of their names.
    """

    root: Path
    experiment: Mapping[str, Any]
    metric: str
    mode: str
    fingerprint: str
    trials: tuple[EarlierTrial, ...]

    @property
    def parameters(self) -> dict[str, Any]:
        """The searched settings: key path -> the distribution as plain values."""
        return dict(value_at(self.experiment, "search.space.parameters") or {})

    @property
    def objective(self) -> str:
        """The objective's type."""
        return str((self.experiment.get("objective") or {}).get("type", DEFAULT))

    @property
    def base(self) -> str:
        """Name of the base model: the last part of its path or hub id, which is the same on another machine."""
        return Path(str(self.experiment.get("base_model", ""))).name

    def best(self, trial: EarlierTrial) -> float | None:
        """Returns the best value that the trial reported, as on the leaderboard; None where it reported none."""
        return (min if self.mode == "min" else max)(trial.curve.values(), default=None)

    def setting(self, trial: EarlierTrial, key: str) -> Any:
        """Returns the value that a setting had in a trial, whether it was searched or not."""
        return value_at(with_settings(self.experiment, trial.parameters), key)


def read_study(root: Path) -> EarlierStudy:
    """Reads the study that a sweep left in `root`.

    Raises:
        InputError: `root` is no run directory, or not of a sweep.
        IntegrityError: A file in it is not whole.
    """
    run = RunDirectory(root)
    if not run.experiment.is_file():
        raise InputError(str(root), "is no run directory, it holds no experiment.yaml", "give e.g. runs/quickstart")
    try:
        experiment = yaml.safe_load(run.experiment.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{run.experiment}: not whole YAML; give another run directory") from error
    search = experiment.get("search") if isinstance(experiment, dict) else None
    if not search:
        raise InputError(str(root), "is a single training, not a study", "give the run directory of a sweep")
    first = (search.get("metrics") or [search])[0]
    metric, mode = first.get("name") or search.get("metric", EVAL_LOSS), first.get("mode", "min")
    manifest = run.data / "manifest.json"
    return EarlierStudy(
        root=root,
        experiment=experiment,
        metric=metric,
        mode=mode,
        fingerprint=read_json(manifest)["fingerprint"] if manifest.is_file() else "",
        trials=tuple(trial for path in sorted(run.trials.glob("*")) if (trial := _read_trial(path, metric))),
    )


def _read_trial(path: Path, metric: str) -> EarlierTrial | None:
    trial = TrialDirectory(path)
    outcome = Outcome.read(trial) if trial.config.is_file() else None
    if outcome is None:
        return None
    reports, curve = read_metrics(trial.metrics), dict[int, float]()
    last: dict[str, Any] = {}
    for report in reports:
        value = value_in(report, metric)
        if value is not None and math.isfinite(value):
            curve[int(report["step"])], last = float(value), report
    return EarlierTrial(path.name, read_json(trial.config)["parameters"], outcome.kind, curve, last)
