"""A small experiment with a search, and a run directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.training.metrics_log import append_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind


@pytest.fixture
def make_experiment() -> Callable[..., Experiment]:
    """An experiment whose `search` has the keyword arguments."""

    def make(**search: Any) -> Experiment:
        space = {
            "parameters": {"train.learning_rate": {"loguniform": [1e-4, 1e-2]}, "method.r": {"choice": [4, 8, 16]}}
        }
        return Experiment.model_validate(
            {
                "name": "toy",
                "base_model": "base",
                "data": {"train": "train.jsonl"},
                "train": {"max_steps": 45},
                "search": {
                    "space": space,
                    "scheduler": {"type": "asha", "grace_period": 5, "reduction_factor": 3},
                    "trials": 8,
                    **search,
                },
            }
        )

    return make


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "runs/toy")


@pytest.fixture
def ended(run: RunDirectory) -> Callable[..., None]:
    """Leaves the files of a trial that ended; `curve` is step -> eval_loss, and each report has a checkpoint."""

    def leave(name: str, kind: str, curve: dict[int, float], **outcome: Any) -> None:
        trial = run.trial(name)
        trial.root.mkdir(parents=True)
        for step, loss in curve.items():
            report = {"step": step, "eval_loss": loss, "seconds": step * 1.0, "checkpoint": f"step-{step:06d}"}
            append_metrics(trial.metrics, report)
        write_json(trial.config, {"trial": name, "parameters": {"method.r": int(name)}})
        last = max(curve, default=0)
        Outcome(OutcomeKind(kind), outcome.pop("reason", f"it {kind}"), last, curve.get(last), **outcome).write(trial)

    return leave
