"""A lane's worker group is Ray Train's, less what is named here; a Ray that names it otherwise would start it again."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.controller import controller as controllers

from raytune_ft.execution.lanes import lane_group
from raytune_ft.execution.lanes.lane_group import (
    ANSWER_S,
    NEEDLESS,
    NEEDLESS_IN_OWN,
    AsksNobody,
    LaneTrainer,
    ProcessGroup,
)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")
    from ray.train import ScalingConfig

    def make(own: bool) -> LaneTrainer:
        scaling: Any = ScalingConfig(num_workers=2)
        return LaneTrainer(print, own=own, scaling_config=scaling, backend_config=ProcessGroup("gloo"))

    return make


def names(callbacks: list[Any]) -> set[str]:
    return {type(each).__name__ for each in callbacks}


def test_only_a_ray_of_ones_own_does_without_the_cleaner(trainer: Any) -> None:
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    everything = names(DataParallelTrainer._create_default_callbacks(trainer(False)))
    assert everything >= NEEDLESS | NEEDLESS_IN_OWN
    assert names(trainer(False)._create_default_callbacks()) == everything - NEEDLESS
    assert names(trainer(True)._create_default_callbacks()) == everything - NEEDLESS - NEEDLESS_IN_OWN


def test_only_there_nobody_is_asked_for_more_nodes(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    class Controller:
        def __init__(self, **settings: Any) -> None:
            given.append(settings)

        async def run(self) -> None: ...

        def get_result(self) -> str:
            return "its result"

    monkeypatch.setattr(controllers, "TrainController", Controller)
    assert trainer(False)._initialize_and_run_controller(scaling_policy="Ray's") == "its result"
    trainer(True)._initialize_and_run_controller(scaling_policy="Ray's")
    assert given[0] == {"scaling_policy": "Ray's"}
    policy = given[1]["scaling_policy"]
    assert isinstance(policy, AsksNobody)
    policy._maybe_send_resource_request()  # without a Ray
    assert policy.make_decision_for_non_running_worker_group().num_workers == 2


def test_rays_controller_is_one_that_runs_in_this_process() -> None:
    """Ray makes an actor of the class; the class itself is the same thing without."""
    assert inspect.iscoroutinefunction(TrainController.run) and not hasattr(TrainController, "remote")
    assert list(inspect.signature(TrainController.get_result).parameters) == ["self"]
    assert list(inspect.signature(controllers.LoggingManager.configure_controller_logger).parameters) == ["context"]


def test_the_process_group_is_as_rays_own_for_torch() -> None:
    """The workers of a node see one another's GPUs, and wait as long for one another."""
    from ray.train.torch import TorchConfig

    theirs = TorchConfig()
    assert ProcessGroup().backend_cls.share_cuda_visible_devices is theirs.backend_cls.share_cuda_visible_devices
    assert theirs.timeout_s == ANSWER_S


def test_a_worker_joins_the_group_and_leaves_it(monkeypatch: pytest.MonkeyPatch, free_ports: Any) -> None:
    import torch.distributed as dist

    alone = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(lane_group.ray.train, "get_context", lambda: alone)
    monkeypatch.setenv("MASTER_ADDR", "")
    monkeypatch.setenv("MASTER_PORT", "")
    (port,) = free_ports(1)
    lane_group._leave()  # of none
    lane_group._join("gloo", "127.0.0.1", port)
    assert (dist.get_backend(), dist.get_rank(), dist.get_world_size()) == ("gloo", 0, 1)
    lane_group._leave()
    assert not dist.is_initialized()


def test_a_lane_of_one_worker_opens_no_store_for_others() -> None:
    """PyTorch's listens on every interface."""

    class Group(list):
        def execute_single(self, *_: object) -> tuple[str, int]:
            asked.append(1)
            return "127.0.0.1", 1

        def execute(self, *_: object) -> None:
            asked.append(2)

    asked: list[int] = []
    backend = ProcessGroup().backend_cls()
    backend.on_start(Group(["alone"]), ProcessGroup())
    assert not asked
    backend.on_start(Group(["one", "other"]), ProcessGroup())
    assert asked == [1, 2]
