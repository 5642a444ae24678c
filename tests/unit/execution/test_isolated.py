"""What an isolated run asks Ray Train for, and what it makes of its errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.exceptions import OutOfMemoryError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from raytune_ft.config.experiment import Experiment
from raytune_ft.execution.failures import failure, failure_reason
from raytune_ft.execution.isolated import run_isolated, scaling
from raytune_ft.execution.memory_monitor import OutOfMemoryEnds
from raytune_ft.paths import RunDirectory, TrialDirectory
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.spec import TrialSpec


def experiment(**resources: object) -> Experiment:
    return Experiment.model_validate({"name": "e", "base_model": "b", "data": {"train": "t"}, "resources": resources})


def test_workers_reserve_what_the_experiment_says() -> None:
    asked = scaling(experiment(workers=3, cpus_per_worker=2, gpus_per_worker=0.5))
    assert (asked.num_workers, asked.use_gpu) == (3, True)
    assert asked.resources_per_worker == {"CPU": 2, "GPU": 0.5}
    plain = scaling(experiment())
    assert (plain.num_workers, plain.use_gpu, plain.resources_per_worker) == (1, False, {"CPU": 1})


def test_a_trial_that_ended_is_not_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that was killed did not notice; Ray Train would miss the checkpoints that were removed since."""
    monkeypatch.setattr("ray.train.torch.TorchTrainer", None)
    spec = TrialSpec.of("0000", {}, experiment(), RunDirectory(tmp_path))
    ended = Outcome(OutcomeKind.pruned, "stopped by asha at step 5", 5, 0.5, 1.0)
    ended.write(spec.directory)
    assert run_isolated(spec, []) == ended


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Training failed due to worker errors:\n[Rank 0 Error Snippet]:\nTraceback (most recent call last):\n"
            '  File "worker.py", line 3, in train\nValueError: no such module: q_prj\n',
            "ValueError: no such module: q_prj",
        ),
        ("ray.train.v2.TrainingFailedError: worker died", "ray.train.v2.TrainingFailedError: worker died"),
        ("one\n\n  two  \n", "two"),
        ("", "RuntimeError"),
    ],
)
def test_the_innermost_cause_is_told_in_one_line(text: str, reason: str) -> None:
    assert failure_reason(RuntimeError(text)) == reason


def test_a_long_cause_is_cut() -> None:
    assert failure_reason(RuntimeError("ValueError: " + "x" * 5000)) == "ValueError: " + "x" * 288


def test_a_worker_that_rays_memory_monitor_ended_is_out_of_memory_and_says_what_to_lower() -> None:
    text = "Training failed due to worker errors:\nray.exceptions.OutOfMemoryError: Task was killed: low memory"
    outcome = failure(RuntimeError(text))
    assert outcome.kind == "out_of_memory"
    assert "lower train.per_device_train_batch_size" in outcome.reason
    assert failure(RuntimeError("ValueError: no")).kind == "failed"


@pytest.mark.parametrize("name", ["torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError"])
def test_a_devices_memory_is_not_taken_for_the_nodes(name: str) -> None:
    outcome = failure(RuntimeError(f"Training failed due to worker errors:\n{name}: CUDA out of memory. Tried 2 GiB"))
    assert (outcome.kind, outcome.reason) == ("out_of_memory", f"{name}: CUDA out of memory. Tried 2 GiB")


@pytest.mark.parametrize("wrapped", [True, False])
def test_such_a_trial_is_over_before_ray_train_would_try_it_again(tmp_path: Path, wrapped: bool) -> None:
    """The group that Ray Train starts again finds the outcome and returns: nothing is trained twice."""
    trial = TrialDirectory(tmp_path)
    killed = OutOfMemoryError("Task was killed due to the node running low on memory")
    callback = OutOfMemoryEnds(trial)
    callback.after_exception(None, {0: ValueError("a bug")})
    assert Outcome.read(trial) is None
    callback.after_exception(None, {0: WorkerHealthCheckFailedError("dead", killed) if wrapped else killed})
    outcome = Outcome.read(trial)
    assert outcome is not None and outcome.kind is OutcomeKind.out_of_memory


def test_an_outcome_that_a_worker_wrote_stays(tmp_path: Path) -> None:
    trial = TrialDirectory(tmp_path)
    Outcome(OutcomeKind.diverged, "NaN").write(trial)
    OutOfMemoryEnds(trial).after_exception(None, {0: OutOfMemoryError("killed")})
    assert (Outcome.read(trial) or pytest.fail()).kind is OutcomeKind.diverged
