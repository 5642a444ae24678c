"""What an isolated run asks Ray Train for, and what it makes of its errors."""

from __future__ import annotations

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.execution.isolated import failure, failure_reason, scaling


def experiment(**resources: object) -> Experiment:
    return Experiment.model_validate({"name": "e", "base_model": "b", "data": {"train": "t"}, "resources": resources})


def test_workers_reserve_what_the_experiment_says() -> None:
    asked = scaling(experiment(workers=3, cpus_per_worker=2, gpus_per_worker=0.5))
    assert (asked.num_workers, asked.use_gpu) == (3, True)
    assert asked.resources_per_worker == {"CPU": 2, "GPU": 0.5}
    plain = scaling(experiment())
    assert (plain.num_workers, plain.use_gpu, plain.resources_per_worker) == (1, False, {"CPU": 1})


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
