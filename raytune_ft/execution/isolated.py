"""The `isolated` runner: one Ray Train run per trial."""

from __future__ import annotations

import os
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.execution.failures import failed, failure
from raytune_ft.training.outcome import Outcome
from raytune_ft.training.spec import TrialSpec


def run_isolated(spec: TrialSpec, callbacks: list[Any]) -> Outcome:
    """Trains `spec` with workers of its own and returns how it ended; never raises for the trial's own failure.

    Args:
        spec: The trial. A second call for the same directory goes on from the last whole checkpoint.
        callbacks: Ray Train's `UserCallback`s; inside a Tune trial, the one that forwards reports to Tune.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    from raytune_ft.execution.memory_monitor import OutOfMemoryEnds
    from raytune_ft.training.isolated.custom_worker import custom_worker
    from raytune_ft.training.isolated.worker import train_worker

    if (ended := Outcome.read(spec.directory)) is not None:  # its driver was killed before it noticed
        return ended
    resources, leading = spec.experiment.resources, spec.experiment.goals[0]
    memory: Any = OutOfMemoryEnds(spec.directory)  # Ray's type hints allow Tune's callbacks only
    spec.directory.root.mkdir(parents=True, exist_ok=True)
    spec.write()
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(resources.worker_start_timeout_s)
    trainer = TorchTrainer(
        train_worker if spec.experiment.trains_on_rows else custom_worker,
        train_loop_config={"spec": spec},
        scaling_config=scaling(spec.experiment),
        torch_config=TorchConfig(backend="nccl" if resources.gpus_per_worker else "gloo"),
        run_config=RunConfig(
            name=spec.directory.checkpoints.name,  # no time or random part: a restarted driver finds the run again
            storage_path=str(spec.directory.root.resolve()),
            callbacks=[*callbacks, memory],
            failure_config=FailureConfig(max_failures=resources.max_failures),
            checkpoint_config=CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute=leading.name, checkpoint_score_order=leading.mode
            ),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        ended = failure(error)
    else:
        ended = failed("the workers ended without an outcome; see their logs")
    outcome = Outcome.read(spec.directory) or ended
    outcome.write(spec.directory)
    return outcome


def scaling(experiment: Experiment, selector: dict[str, str] | None = None) -> Any:
    """Returns Ray Train's `ScalingConfig` of one worker group, on nodes whose labels match `selector`."""
    from ray.train import ScalingConfig

    config: Any = ScalingConfig  # Ray's type hints name Train v1's class, which knows no labels
    resources = experiment.resources
    per_worker = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        per_worker["GPU"] = resources.gpus_per_worker
    return config(
        num_workers=resources.workers,
        use_gpu=resources.gpus_per_worker > 0,
        resources_per_worker=per_worker,
        label_selector=selector,
    )
