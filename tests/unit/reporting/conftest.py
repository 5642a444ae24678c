"""A fabricated run: TPE over a toy loss, halved by rungs, with a diverged and a failed trial."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import optuna
import pytest

from raytune_ft.paths import RunDirectory, write_json, write_text

RUNGS = (5, 15, 30)
METRICS = ["loss", "accuracy", "macro_f1"]
EXPERIMENT = """\
name: {name}
base_model: assets/smollm2-135m-instruct
data: {{train: assets/data/movies.train.jsonl, test: assets/data/movies.test.jsonl, max_length: 128}}
train: {{max_steps: 30, dtype: float32}}
search:
  trials: {trials}
  space:
    parameters:
      train.learning_rate: {{loguniform: [1.0e-4, 5.0e-3]}}
      method.r: {{choice: [4, 8, 16, 32]}}
      train.per_device_train_batch_size: {{choice: [4, 8]}}
"""


@pytest.fixture(scope="session")
def fabricate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDirectory]:
    """Fabricates each kind of run once: a study of many trials takes SQLite a second."""
    return cache(partial(_fabricate, tmp_path_factory.mktemp("runs")))


@pytest.fixture
def make_run(fabricate: Callable[..., RunDirectory], tmp_path: Path) -> Callable[..., RunDirectory]:
    """Makes a run directory: `make_run(name, trials, failed_reason, fingerprint)`."""

    def make(
        name: str = "movie-sentiment",
        trials: int = 16,
        failed_reason: str = "worker died: exit code 137",
        fingerprint: str = "4be1" * 16,
    ) -> RunDirectory:
        made = fabricate(name, trials, failed_reason, fingerprint)
        return RunDirectory(shutil.copytree(made.root, tmp_path / name))

    return make


def _fabricate(parent: Path, name: str, trials: int, failed_reason: str, fingerprint: str) -> RunDirectory:
    run = RunDirectory(Path(tempfile.mkdtemp(dir=parent)) / name)
    write_text(run.experiment, EXPERIMENT.format(name=name, trials=trials))
    rows = _search(run, name, trials, failed_reason)
    ranked = sorted(rows, key=lambda row: math.inf if row["value"] is None else row["value"])
    for rank, row in enumerate(ranked, start=1):
        row["rank"] = rank if row["value"] is not None else None
    write_json(
        run.leaderboard,
        {"schema": 1, "experiment": name, "metric": "eval_loss", "mode": "min", "rows": ranked},
    )
    _result(run, ranked[0], fingerprint)
    return run


def _search(run: RunDirectory, name: str, trials: int, failed_reason: str) -> list[dict[str, Any]]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name=name, storage=f"sqlite:///{run.study}", sampler=optuna.samplers.TPESampler(seed=0)
    )
    rows: list[dict[str, Any]] = []
    at_rung: dict[int, list[float]] = {rung: [] for rung in RUNGS}
    for index in range(trials):
        trial = study.ask()
        parameters = {
            "train.learning_rate": trial.suggest_float("train.learning_rate", 1e-4, 5e-3, log=True),
            "method.r": trial.suggest_categorical("method.r", [4, 8, 16, 32]),
            "train.per_device_train_batch_size": trial.suggest_categorical("train.per_device_train_batch_size", [4, 8]),
        }
        points, outcome, reason = _train(index, parameters, at_rung, failed_reason)
        for point in points:
            if point["eval_loss"] is not None:
                trial.report(point["eval_loss"], point["step"])
        value = points[-1]["eval_loss"] if points and outcome in ("completed", "pruned") else None
        state = {"completed": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED}
        final = state.get(outcome, optuna.trial.TrialState.FAIL)
        study.tell(trial, value if outcome == "completed" else None, state=final)
        directory = run.trial(f"{index:04d}")
        write_json(directory.config, {"trial": f"{index:04d}", "parameters": parameters, "experiment": {}})
        write_text(directory.metrics, "".join(json.dumps(point) + "\n" for point in points))
        ending = {
            "outcome": outcome,
            "reason": reason,
            "step": points[-1]["step"] if points else 0,
            "value": value,
            "seconds": 20 + 1.4 * (points[-1]["step"] if points else 0),
        }
        write_json(directory.outcome, ending)
        rows.append({"trial": f"{index:04d}", "parameters": parameters, "checkpoint": None, **ending})
    return rows


def _train(
    index: int, parameters: dict[str, Any], at_rung: dict[int, list[float]], failed_reason: str
) -> tuple[list[dict[str, Any]], str, str]:
    if index == 3:
        return [], "failed", failed_reason
    rate = math.log10(parameters["train.learning_rate"] / 1.2e-3)
    floor = 0.3 + 0.12 * rate**2 + 0.02 * abs(math.log2(parameters["method.r"] / 16)) + 0.01 * (index % 3)
    points: list[dict[str, Any]] = []
    for rung in RUNGS:
        loss = floor + 0.7 * math.exp(-rung / (9 if parameters["train.per_device_train_batch_size"] == 8 else 12))
        if index == 6 and rung > 5:
            points.append(_point(rung, math.nan, None))
            return points, "diverged", "train_loss became NaN at step 15; lower train.learning_rate"
        points.append(_point(rung, loss + 0.05, loss))
        at_rung[rung].append(loss)
        better = sum(other < loss for other in at_rung[rung])
        if rung < RUNGS[-1] and better > 0.5 * len(at_rung[rung]):
            return points, "pruned", f"step {rung}: {better} of {len(at_rung[rung])} trials were better"
    return points, "completed", "ran to step 30"


def _point(step: int, train_loss: float, eval_loss: float | None) -> dict[str, Any]:
    return {
        "step": step,
        "samples": step * 16,
        "tokens": step * 410,
        "train_loss": train_loss,
        "eval_loss": eval_loss,
        "seconds": 1.4 * step,
        "time": "2026-11-22T03:00:00Z",
        "checkpoint": None,
    }


def _result(run: RunDirectory, best: dict[str, Any], fingerprint: str) -> None:
    write_json(
        run.winner,
        {
            "schema": 1,
            "experiment": run.root.name,
            "trial": best["trial"],
            "parameters": best["parameters"],
            "metric": "eval_loss",
            "value": best["value"],
            "step": best["step"],
            "adapter": f"trials/{best['trial']}/checkpoints/30",
            "base_model": "assets/smollm2-135m-instruct",
            "data_fingerprint": fingerprint,
        },
    )
    systems = {
        "base": {"loss": 0.771, "accuracy": 0.79, "macro_f1": 0.602, "seconds": 31.0},
        "winner": {"loss": 0.352, "accuracy": 0.875, "macro_f1": 0.718, "seconds": 33.0},
    }
    gaps = {"loss": (-0.419, -0.48, -0.36), "accuracy": (0.085, 0.05, 0.12), "macro_f1": (0.116, 0.06, 0.171)}
    write_json(
        run.evaluation,
        {
            "schema": 1,
            "experiment": run.root.name,
            "split": "test",
            "rows": 400,
            "metrics": METRICS,
            "labels": [" positive", " negative", " neutral"],
            "systems": systems,
            "difference": {
                metric: {"mean": mean, "low": low, "high": high, "level": 0.95}
                for metric, (mean, low, high) in gaps.items()
            },
            "examples": [
                {
                    "prompt": "Review: A joy.\nSentiment:",
                    "expected": " positive",
                    "base": " neutral",
                    "winner": " positive",
                }
            ],
        },
    )
    splits = {
        name: {"rows": rows, "tokens": rows * 33, "source": f"assets/data/{file}.jsonl", "sha256": "ab", "dropped": 0}
        for name, rows, file in (
            ("train", 9000, "movies.train"),
            ("validation", 96, "movies.train"),
            ("test", 400, "movies.test"),
        )
    }
    write_json(
        run.data / "manifest.json",
        {
            "schema": 1,
            "fingerprint": fingerprint,
            "form": "prompt_completion",
            "splits": splits,
            "duplicates": {"train/test": 3, "train": 12},
        },
    )
