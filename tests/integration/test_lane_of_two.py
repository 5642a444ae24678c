"""A lane of two workers that share their optimizers' state: one of them dies in the middle of a step (fault 1)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from raytune_ft import api
from raytune_ft.config.training import Lane
from raytune_ft.execution.cluster import ray_cluster
from raytune_ft.execution.lanes.entries import TrialEnded, TrialReport
from raytune_ft.execution.lanes.lanes import IMPORTS, lanes
from raytune_ft.metrics.report import for_ray
from raytune_ft.objectives.prepared import prepare
from raytune_ft.paths import RunDirectory
from raytune_ft.training.lane.orders import Start
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.outcome import OutcomeKind
from raytune_ft.training.spec import TrialSpec

STEPS, EVERY = 200, 50
DEADLINE_S = 240.0


def workers() -> list[psutil.Process]:
    """Of this test's own Ray."""
    children = psutil.Process().children(recursive=True)
    found = [process for process in children if " ".join(process.cmdline()).startswith("ray::RayTrainWorker")]
    assert len(found) == 2
    return sorted(found, key=lambda process: process.pid)


def test_fault_1_whichever_worker_is_killed_the_group_restarts_and_the_losses_are_an_unharmed_trials(
    toy_experiment: Callable[..., Path],
) -> None:
    resources = {"workers": 2, "strategy": {"type": "deepspeed", "zero_stage": 1}, "max_failures": 1}
    train = {"per_device_train_batch_size": 4, "max_steps": STEPS, "eval_steps": EVERY, "dtype": "float32"}
    experiment = api.load_experiment(toy_experiment(resources=resources, train=train, search=None))
    run = RunDirectory(Path(experiment.output_dir) / "two")
    prepare(experiment, run.data, in_use=False)

    def trial(dispatcher: Any, name: str, killed: int | None = None) -> list[int]:
        """Steps that it reported until it completed, where one of the workers is killed on the way."""
        ray.get(dispatcher.submit.remote(Start(TrialSpec.of(name, {}, experiment, run)), "test", 0))
        steps: list[int] = []
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            match ray.get(dispatcher.next_event.remote(name, 5.0)):
                case TrialReport(metrics=metrics):
                    steps.append(metrics["step"])
                    ray.get(dispatcher.go_on.remote(name))
                    if killed is not None and steps[-1] == 2 * EVERY:
                        time.sleep(0.1)  # into the next steps
                        workers()[killed].kill()
                case TrialEnded(outcome=outcome):
                    assert (outcome.kind, outcome.step) == (OutcomeKind.completed, STEPS)
                    return steps
        raise AssertionError(f"trial {name} did not end in {DEADLINE_S:.0f} s, its last steps were {steps[-3:]}")

    kills = {"0000": None, "0001": 0, "0002": 1}
    with ray_cluster(state_api=False, forked=IMPORTS), lanes(experiment, Lane(), run, 1) as dispatcher:
        for name, killed in kills.items():
            assert trial(dispatcher, name, killed) == [50, 100, 150, 200]
    unharmed, *others = (read_metrics(run.trial(name).metrics) for name in kills)
    for other in others:
        for key in ("train_loss", "eval_loss", "samples"):
            assert [for_ray(row)[key] for row in other] == pytest.approx(
                [for_ray(row)[key] for row in unharmed], rel=1e-6
            ), key
