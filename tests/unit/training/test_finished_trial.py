"""A trial that was killed between its last checkpoint and its outcome."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import ray.train

from raytune_ft.config.experiment import Experiment
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.training.isolated.worker import train_worker
from raytune_ft.training.metrics_log import append_metrics, read_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.progress import Phase, TrialProgress
from raytune_ft.training.spec import TrialSpec


class FirstRank:
    """Ray Train's context on the only worker."""

    def get_world_rank(self) -> int:
        return 0

    get_local_rank = get_world_rank


@pytest.mark.parametrize(("last_line", "seconds"), [(0, 12.0), (5, 14.5), (10, 7.5)])
def test_it_completes_with_its_value_and_without_another_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_line: int, seconds: float
) -> None:
    """The seconds of a line that was not written are those of its steps and its evaluation, of late."""
    values = {"name": "toy", "base_model": "base", "data": {"train": "train.jsonl"}, "train": {"max_steps": 10}}
    spec = TrialSpec.of("0000", {}, Experiment.model_validate(values), RunDirectory(tmp_path / "run"))
    spec.write()
    curve = [
        {"step": step, "metrics": {"eval_loss": loss}, "seconds": 7.5, "checkpoint": f"step-{step:06d}"}
        for step, loss in ((5, 0.5), (10, 0.25))
    ]
    for report in curve:
        if report["step"] <= last_line:
            append_metrics(spec.directory.metrics, report)
    state = TrialProgress(Phase.evaluating, 10, 10, 10, step_s=1.0, evaluation_s=2.0)
    write_json(spec.directory.progress, asdict(state))
    history = [{"step": 5, "eval_loss": 0.5}, {"step": 10, "loss": 0.3}, {"step": 10, "eval_loss": 0.25}]
    write_json(tmp_path / "saved" / "trainer_state.json", {"global_step": 10, "log_history": history})
    checkpoint = ray.train.Checkpoint.from_directory(tmp_path / "saved")
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: checkpoint)
    monkeypatch.setattr(ray.train, "get_context", FirstRank)

    train_worker({"spec": spec})

    assert Outcome.read(spec.directory) == Outcome(OutcomeKind.completed, "ran all 10 steps", 10, 0.25, seconds)
    assert read_metrics(spec.directory.metrics) == [*curve[: last_line // 5], curve[1] | {"seconds": seconds}][:2]
