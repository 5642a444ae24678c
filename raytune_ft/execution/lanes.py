"""The lanes of a study, from their start to their end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Lane
from raytune_ft.execution.cluster import groups_that_fit
from raytune_ft.execution.entries import Death
from raytune_ft.execution.isolated import failure, scaling
from raytune_ft.execution.lane_worker import RunLane, lane_worker
from raytune_ft.paths import RunDirectory
from raytune_ft.training.spec import TrialSpec

CLOSE_S = 8.0
"""How long lanes may take to end by themselves; they look for orders between two steps."""
HEALTH_CHECK_S = 1.0
"""How often Ray Train looks after its workers, and how long it takes to see that one died or that all returned."""


@contextmanager
def lanes(
    experiment: Experiment, runner: Lane, run: RunDirectory, count: int, run_lane: RunLane | None = None
) -> Iterator[Any]:
    """Keeps `count` lanes running for the length of the block; nothing of them is left after it.

    Args:
        experiment: Whose base the lanes load.
        runner: The lanes' settings.
        run: Ray Train keeps its records in it.
        count: How many lanes.
        run_lane: The training loop, if not the real one.

    Yields:
        Handle of the Dispatcher.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from raytune_ft.execution.dispatcher import Dispatcher

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    resources = experiment.resources
    # The base by its whole path: workers run in another directory.
    resolved = TrialSpec.of("", {}, experiment, run).experiment.model_copy(update={"runner": runner})
    dispatcher: Any = ray.remote(Dispatcher)
    dispatcher = dispatcher.options(num_cpus=0, scheduling_strategy=here).remote(count, resources.max_failures)
    host: Any = ray.remote(LaneHost)
    host = host.options(num_cpus=0, max_concurrency=count + 1, scheduling_strategy=here).remote(
        resolved, run.root / "lanes", dispatcher, run_lane
    )
    try:
        ray.get(dispatcher.open.remote(host))
        yield dispatcher
    finally:
        try:
            _close(dispatcher)
        finally:
            for actor in (host, dispatcher):  # with the host go Ray Train's controllers, with these the workers
                ray.kill(actor)


def lane_count(experiment: Experiment, runner: Lane) -> int:
    """How many lanes a study gets: what the settings say, or what the cluster holds now; at least one."""
    if runner.lanes is not None:
        return runner.lanes
    return max(1, min(groups_that_fit(experiment), experiment.search.max_concurrent if experiment.search else 1))


class LaneHost:
    """A Ray actor that owns the Ray Train runs, one per lane; each call of `run` keeps one thread of it.

    Args:
        experiment: With the lane's settings, and the base's whole path.
        records: Directory for Ray Train's records.
        dispatcher: Handle of the Dispatcher.
        run_lane: The training loop, if not the real one.
    """

    def __init__(self, experiment: Experiment, records: Path, dispatcher: Any, run_lane: RunLane | None) -> None:
        self._experiment, self._records = experiment, records
        self._config = {"experiment": experiment, "dispatcher": dispatcher, "run_lane": run_lane}
        os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(experiment.resources.worker_start_timeout_s)
        os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = str(HEALTH_CHECK_S)

    def run(self, lane: int) -> Death:
        """Runs one worker group of the lane until it ends, and says why it did."""
        from ray.train import RunConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.config import FailureConfig
        from ray.train.v2.api.exceptions import PreemptionError, TrainingFailedError

        resources = self._experiment.resources
        trainer = TorchTrainer(
            lane_worker,
            train_loop_config={**self._config, "lane": lane},
            scaling_config=scaling(self._experiment),
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if resources.gpus_per_worker else "gloo"),
            run_config=RunConfig(
                name=f"lane-{lane}",
                storage_path=str(self._records),
                # Whether another group is started depends on whom this one's death is charged to: the book decides.
                failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            outcome = failure(error)
            return Death(outcome.reason, outcome.kind, charged=not isinstance(error, PreemptionError))
        return Death("its workers ended by themselves")


def _close(dispatcher: Any) -> None:
    import ray

    with contextlib.suppress(ray.exceptions.RayError):  # what does not end by itself is killed
        ray.get(dispatcher.close.remote(CLOSE_S), timeout=CLOSE_S + 5.0)
