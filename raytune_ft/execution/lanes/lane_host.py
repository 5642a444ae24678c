"""Runs the worker groups of a study's lanes. It imports Ray Train late: the dispatcher takes calls before that."""

from __future__ import annotations

import asyncio
import importlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.execution.devices import LaneNodes
from raytune_ft.execution.isolated import scaling
from raytune_ft.execution.lanes.entries import Cause, Death
from raytune_ft.execution.lanes.recovery.deaths import death_of
from raytune_ft.private_names import missing, patches_wanted
from raytune_ft.training.lane.orders import RunLane

GROUP_NAMES = (
    "ray.train._internal.utils:get_address_and_port",
    "ray.train.v2._internal.execution.controller.controller:LoggingManager.configure_controller_logger",
    "ray.train.v2._internal.execution.controller.controller:TrainController",
    "ray.train.v2._internal.execution.scaling_policy:FixedScalingPolicy",
    "ray.train.v2.api.data_parallel_trainer:DataParallelTrainer._create_default_callbacks",
    "ray.train.v2.api.data_parallel_trainer:DataParallelTrainer._initialize_and_run_controller",
)
"""Private names of Ray that `lane_group` needs."""
HEALTH_CHECK_S = 1.0
"""Seconds between Ray Train's checks of its workers, by which it sees that one died or that all returned."""


class LaneHost:
    """Owns the Ray Train runs, one per lane, in the dispatcher's process.

    Args:
        experiment: The experiment, with the lanes' settings and the absolute path of the base model.
        records: Directory for Ray Train's records.
        dispatcher: Handle of the Dispatcher, which the lanes talk to.
        run_lane: The training loop; None for the real one.
        own: Whether Ray is a private one that ends with the study, so that no node of it will be taken away.
        nodes: The nodes that lanes may run on; None where any may.

    Attributes:
        notices: Lines for the user that nobody has fetched yet.
    """

    def __init__(
        self,
        experiment: Experiment,
        records: Path,
        dispatcher: Any,
        run_lane: RunLane | None,
        own: bool,
        nodes: LaneNodes | None = None,
    ) -> None:
        self._experiment, self._records, self._own, self._nodes = experiment, records, own, nodes
        self.notices: list[str] = []
        self._plain = False
        self._config = {"experiment": experiment, "dispatcher": dispatcher, "run_lane": run_lane}

    async def run(self, lane: int) -> Death:
        """Runs one worker group of the lane until it ends, and returns why it ended."""
        thread = ThreadPoolExecutor(1, f"lane-{lane}")
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, self._run, lane)
        finally:
            thread.shutdown(wait=False)

    def _run(self, lane: int) -> Death:
        resources = self._experiment.resources
        os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(resources.worker_start_timeout_s)
        os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = str(HEALTH_CHECK_S)
        if self._own:
            os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
        train: Any = importlib.import_module("ray.train")  # Ray's type hints name Train v1's module
        # Whether and when another group is started depends on all lanes: the scheduler decides.
        once = train.FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0)
        trainer = self._trainer(
            train_loop_config={**self._config, "lane": lane},
            scaling_config=scaling(self._experiment, self._selector()),
            run_config=train.RunConfig(
                name=f"lane-{lane}",
                storage_path=str(self._records),
                failure_config=once,
            ),
        )
        try:
            trainer.fit()
        except train.TrainingFailedError as error:
            return death_of(error)
        return Death("its workers ended by themselves", cause=Cause.lost)  # as a lane's do that is cut off

    def _trainer(self, **settings: Any) -> Any:
        """Returns the trainer of one worker group: `LaneTrainer`, or Ray Train's own where Ray lacks its names."""
        from raytune_ft.execution.lanes.lane_worker import lane_worker

        backend = "cpu:gloo,cuda:nccl" if self._experiment.resources.gpus_per_worker else "gloo"
        gone = missing(*GROUP_NAMES, without="lanes start as Ray Train starts any workers")
        if patches_wanted() and not gone:
            from raytune_ft.execution.lanes.lane_group import LaneTrainer, ProcessGroup

            return LaneTrainer(lane_worker, own=self._own, backend_config=ProcessGroup(backend), **settings)
        from ray.train.torch import TorchConfig, TorchTrainer

        if gone and not self._plain:
            self.notices.append(gone)
        self._plain = True
        return TorchTrainer(lane_worker, torch_config=TorchConfig(backend), **settings)

    def _selector(self) -> dict[str, str] | None:
        if self._nodes is None:
            return None
        selector, lines = self._nodes.selector()
        self.notices += lines
        return selector
