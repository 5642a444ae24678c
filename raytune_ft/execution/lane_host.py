"""The actor that owns the worker groups of a study's lanes. Imports nothing heavy: handles of it are unpickled."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.execution.entries import Death
from raytune_ft.execution.isolated import failure, scaling

RunLane = Callable[..., None]
"""`run_lane(experiment, desk, *, report_ready)` of `training.lane.loop`, or a test's."""

HEALTH_CHECK_S = 1.0
"""How often Ray Train looks after its workers, and how long it takes to see that one died or that all returned."""

NEEDLESS = "DatasetsCallback"
"""Of Ray Train's: it starts a process for Ray's datasets, which lanes have none of."""


class LaneHost:
    """A Ray actor that owns the Ray Train runs, one per lane; each call of `run` keeps one thread of it.

    Args:
        experiment: With the lane's settings, and the base's whole path.
        records: Directory for Ray Train's records.
        dispatcher: Handle of the Dispatcher.
        run_lane: The training loop, if not the real one.
        private: The cluster is this study's own, and no node of it will be taken away.
    """

    def __init__(
        self, experiment: Experiment, records: Path, dispatcher: Any, run_lane: RunLane | None, private: bool
    ) -> None:
        self._experiment, self._records = experiment, records
        self._config = {"experiment": experiment, "dispatcher": dispatcher, "run_lane": run_lane}
        os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(experiment.resources.worker_start_timeout_s)
        os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = str(HEALTH_CHECK_S)
        if private:
            os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"

    def run(self, lane: int) -> Death:
        """Runs one worker group of the lane until it ends, and says why it did."""
        from ray.train import RunConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.config import FailureConfig
        from ray.train.v2.api.exceptions import PreemptionError, TrainingFailedError

        from raytune_ft.execution.lane_worker import lane_worker

        class LaneTrainer(TorchTrainer):
            """Read against ray 2.60.0; another version that has no such method merely starts its helpers."""

            def _create_default_callbacks(self) -> list[Any]:
                callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
                return [each for each in callbacks if type(each).__name__ != NEEDLESS]

        resources = self._experiment.resources
        trainer = LaneTrainer(
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
