"""A lane's worker group: Ray Train's, without the parts that lanes don't need, so that it starts faster.

Each process that a group waits for starts an interpreter, and torch alone takes a second to import; so only workers
import it. Read against ray 2.60.0; where another version lacks these names, `lane_host` uses Ray Train's own trainer.
"""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest import mock

import ray
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.execution.controller import controller as controllers
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

NEEDLESS = {"DatasetsCallback"}
"""Callbacks of Ray Train that lanes leave out: this one starts a process for Ray datasets, which lanes don't use."""
NEEDLESS_IN_OWN = {"PlacementGroupCleanerCallback"}
"""Left out too in a private Ray: its process frees reserved resources if all others die, when Ray ends anyway."""
_one_at_a_time = threading.Lock()
ANSWER_S = 1800.0
"""Seconds that workers may wait for one another, as in `TorchConfig`."""
LEAVE_S = 30.0
"""Seconds that workers may take to leave their process group."""


class LaneTrainer(DataParallelTrainer):
    """Ray Train's trainer, without some of its helper processes.

    Args:
        own: Whether Ray is a private one that ends with the study, so that nodes neither join nor leave it.
        train_loop_per_worker: The function that each worker runs.
        more: Further arguments of `DataParallelTrainer`.
    """

    def __init__(self, train_loop_per_worker: Any, *, own: bool, **more: Any) -> None:
        self._own = own
        super().__init__(train_loop_per_worker, **more)

    def _create_default_callbacks(self) -> list[Any]:
        needless = NEEDLESS | (NEEDLESS_IN_OWN if self._own else set())
        return [each for each in super()._create_default_callbacks() if type(each).__name__ not in needless]

    def _initialize_and_run_controller(self, **settings: Any) -> Any:
        """Runs the controller in this process: an actor for each lane would be one more process to start and keep."""
        if self._own:
            scaling: Any = self.scaling_config  # Ray's type hints name Train v1's class
            settings["scaling_policy"] = AsksNobody(scaling)
        with _one_at_a_time, mock.patch.object(controllers, "LoggingManager", LeavesLogging):
            controller = controllers.TrainController(**settings)
        asyncio.run(controller.run())
        return controller.get_result()


class LeavesLogging:
    """Skips the controller's set-up of logging, made for a process of its own: in a shared one it could deadlock."""

    @staticmethod
    def configure_controller_logger(context: Any) -> None: ...


class AsksNobody(FixedScalingPolicy):
    """A scaling policy without the actor that collects resource requests for an autoscaler."""

    def _maybe_send_resource_request(self) -> None: ...

    def _send_resource_request(self) -> None: ...

    def _cancel_resource_request(self) -> None: ...


@dataclass
class ProcessGroup(BackendConfig):
    """Sets up torch's process group over a lane's workers as `ray.train.torch.TorchConfig` does, without importing it.

    Attributes:
        backend: The backend of torch.distributed, such as `gloo` or `cpu:gloo,cuda:nccl`.
    """

    backend: str = "gloo"

    @property
    def backend_cls(self) -> type[Backend]:
        return _ProcessGroup


class _ProcessGroup(Backend):
    share_cuda_visible_devices = True  # as in Ray's torch backend: workers on a node reach one another's GPUs

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        if len(worker_group) == 1:  # a single worker needs no group, whose store would listen on every interface
            return
        address, port = worker_group.execute_single(0, get_address_and_port)
        worker_group.execute(_join, backend_config.backend, address, port)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        ray.wait(worker_group.execute_async(_leave), num_returns=len(worker_group), timeout=LEAVE_S)


def _join(backend: str, address: str, port: int) -> None:
    import torch.distributed as dist

    os.environ |= {"MASTER_ADDR": address, "MASTER_PORT": str(port)}
    context, wait = ray.train.get_context(), timedelta(seconds=ANSWER_S)
    dist.init_process_group(backend, timeout=wait, world_size=context.get_world_size(), rank=context.get_world_rank())


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
