"""The function that every worker of a lane runs. The sender imports this file too, so nothing heavy is at its top."""

from __future__ import annotations

from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.execution.devices import threads_of
from raytune_ft.execution.lanes.lane_client import LaneClient
from raytune_ft.training.lane.orders import RunLane


def lane_worker(config: dict[str, Any]) -> None:
    """Trains the trials that the dispatcher hands out, until it says that no more will come.

    Args:
        config: `{"experiment": Experiment, "dispatcher": handle, "lane": number, "run_lane": RunLane | None}`.
    """
    import ray.train.torch
    import torch

    from raytune_ft.training.kernel_cache import keep_few_kernels

    experiment: Experiment = config["experiment"]
    first = ray.train.get_context().get_world_rank() == 0
    client = LaneClient(config["dispatcher"], config["lane"]) if first else None
    torch.set_num_threads(threads_of(experiment))
    keep_few_kernels()
    if experiment.resources.gpus_per_worker:
        torch.cuda.set_device(ray.train.torch.get_device())  # a worker may see all GPUs of its node
    run_lane: RunLane = config["run_lane"] or _real_loop()
    run_lane(experiment, client, report_ready=client.ready if client else _nothing)
    if client:
        client.bye()


def _real_loop() -> RunLane:
    from raytune_ft.training.lane.loop import run_lane

    return run_lane


def _nothing() -> None:
    """Stands in for `LaneClient.ready` on all ranks but the first, which alone talks to the dispatcher."""
