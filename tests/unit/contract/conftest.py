"""One trial of any objective and method in this process, without Ray, on the tiny Llama."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import load_experiment
from raytune_ft.config.objectives.choice import OBJECTIVES
from raytune_ft.objectives.prepared import prepare
from raytune_ft.paths import RunDirectory
from raytune_ft.training.isolated import reporting_callback, worker
from raytune_ft.training.spec import TrialSpec

STEPS = 12


@dataclass(frozen=True)
class Context:
    """Ray Train's on the only worker."""

    def get_world_rank(self) -> int:
        return 0

    get_local_rank = get_world_rank

    def get_world_size(self) -> int:
        return 1


@dataclass
class Trained:
    """A trial that was trained to its end.

    Attributes:
        experiment: What was trained.
        trainer: TRL's.
        losses: Of each step.
        reports: Metrics of each evaluation, the base's first.
    """

    experiment: Experiment
    trainer: Any
    losses: list[float]
    reports: list[dict[str, float]]


@pytest.fixture
def experiment_of(toy_experiment, toy_preferences, tmp_path: Path) -> Callable[..., Experiment]:
    """Makes an experiment of an objective and a method, whose rows are those that the objective takes."""

    def make(
        objective: str = "sft", method: str = "lora", settings: dict[str, Any] | None = None, **changes: Any
    ) -> Experiment:
        data: dict[str, Any] = {"max_length": 64}
        if OBJECTIVES[objective].rows == "preference":
            data = toy_preferences(80)
        else:
            toy_experiment()
            data |= {split: str(tmp_path / f"data/{split}.jsonl") for split in ("train", "validation", "test")}
        data |= {"max_train_rows": 80, "max_validation_rows": 16, "max_test_rows": 16}
        values: dict[str, Any] = {
            "data": data,
            "objective": {"type": objective},
            "method": {"type": method} | ({} if method == "full" else {"r": 8, "alpha": 16}) | (settings or {}),
            "train": {
                "learning_rate": 1e-3 if method == "full" else 1e-2, "per_device_train_batch_size": 8,
                "max_steps": STEPS, "dtype": "float32",
            },
            "search": None,
            "evaluate": None,
        }  # fmt: skip
        return load_experiment(toy_experiment(**{**values, **changes}))

    return make


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Trained]:
    """Trains an experiment as the isolated worker does; `stop` ends it at a step, with a checkpoint there."""
    monkeypatch.setattr(reporting_callback.ray.train, "get_context", Context)

    def run(experiment: Experiment, stop: int | None = None, resume: str | None = None) -> Trained:
        directory = RunDirectory(tmp_path / "world")
        prepare(experiment, directory.data)
        spec = TrialSpec.of("0000", {}, experiment, directory)
        spec.directory.root.mkdir(parents=True, exist_ok=True)
        callback = reporting_callback.ReportingCallback(spec, None, 0.0)
        trainer = worker._trainer(spec, tmp_path / "local", callback, measure_base=resume is None)
        reports: list[dict[str, float]] = []
        evaluated = callback.on_evaluate

        def on_evaluate(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            reports.append(dict(kwargs["metrics"]))
            evaluated(args, state, control, **kwargs)

        def on_step_end(args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_log = True
            control.should_evaluate = state.global_step == experiment.train.max_steps
            if state.global_step == stop:
                control.should_save = control.should_training_stop = True

        callback.on_evaluate = on_evaluate  # type: ignore[method-assign]
        callback.on_step_end = on_step_end  # type: ignore[method-assign]
        callback.on_save = lambda *_, **__: None  # type: ignore[method-assign]
        trainer.train(resume_from_checkpoint=resume)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return Trained(experiment, trainer, losses, reports)

    return run
