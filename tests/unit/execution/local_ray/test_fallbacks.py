"""Where a private name of Ray's or vLLM's is gone, or changes are switched off, theirs runs, and a line says so.

Fault 51.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from raytune_ft import private_names
from raytune_ft.config.experiment import Experiment
from raytune_ft.execution.cluster import FORKED_STARTUP
from raytune_ft.execution.lanes import lane_host
from raytune_ft.execution.lanes.lane_host import LaneHost
from raytune_ft.execution.local_ray.forked import started
from raytune_ft.execution.local_ray.forked.started import forked_workers
from raytune_ft.execution.local_ray.leftovers import workers_end
from raytune_ft.execution.local_ray.loopback import LOOPBACK_ENVIRONMENT, keep_replica_on_loopback, ray_on_loopback
from raytune_ft.execution.local_ray.minimal_ray import minimal_ray
from raytune_ft.execution.local_ray.token import read_token_anew
from raytune_ft.private_names import FORKED_START, PATCHES, all_there
from raytune_ft.search import tuning
from raytune_ft.serving.engine.front_door import DIRECT, listen_again, port_of_proxy


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_names, "_told", set())


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Takes `module:Class.name` away."""

    def take(name: str) -> None:
        module, _, path = name.partition(":")
        owner: Any = importlib.import_module(module)
        *parts, last = path.split(".")
        for part in parts:
            owner = getattr(owner, part)
        monkeypatch.delattr(owner, last)

    return take


def parameters() -> Any:
    return importlib.import_module("ray._private.parameter").RayParams


def test_the_line_says_which_name_is_gone_and_what_is_lost_and_comes_once(caplog: pytest.LogCaptureFixture) -> None:
    assert all_there("ray.actor:ActorClassID.from_random", without="nothing")
    for _ in range(2):
        assert not all_there("ray.actor:ActorClassID", "ray.actor:Gone.name", without="all is slow")
    assert not all_there("ray._gone:name", without="all is slow")
    first, second = caplog.messages
    assert first.startswith("ray 2.") and first.endswith("has no ray.actor.Gone.name any more: all is slow")
    assert second.endswith("has no ray._gone.name any more: all is slow")


@pytest.mark.parametrize(
    "name", ["ray._private.services:start_api_server", "ray._private.parameter:RayParams.update_if_absent"]
)
def test_ray_starts_all_its_processes(name: str, gone: Callable[[str], None], caplog: pytest.LogCaptureFixture) -> None:
    services = importlib.import_module("ray._private.services")
    gone(name)
    before = {**vars(services)}, {**vars(parameters())}
    with minimal_ray(logs=False):
        assert ({**vars(services)}, {**vars(parameters())}) == before
    assert name.replace(":", ".") in caplog.text


def test_each_worker_is_a_new_process(gone: Callable[[str], None], caplog: pytest.LogCaptureFixture) -> None:
    gone("ray.actor:ActorClassID")
    before = parameters().update_if_absent
    with started._in_place_of_rays() as replaced:
        assert not replaced and parameters().update_if_absent is before
    assert "ray.actor.ActorClassID" in caplog.text and "new process" in caplog.text


@pytest.mark.parametrize("switch", [PATCHES, FORKED_START])
def test_copies_are_behind_one_switch(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started_: list[object] = []
    monkeypatch.setattr(started, "_start", lambda *more: started_.append(more))
    monkeypatch.setenv(switch, "0")
    with forked_workers(("one", "other")) as copies:
        assert copies is None
    assert not started_ and FORKED_STARTUP


def test_what_ray_leaves_behind_it_ends_itself(gone: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    class Node:
        def kill_all_processes(self, **_: object) -> None: ...

    worker, node = importlib.import_module("ray._private.worker"), Node()
    monkeypatch.setattr(worker, "_global_node", node)
    with workers_end():
        assert "kill_all_processes" in vars(node)  # replaced where all is there
    monkeypatch.setattr(worker, "_global_node", plain := Node())
    with monkeypatch.context() as patch:
        patch.setenv(PATCHES, "0")
        with workers_end():
            assert not vars(plain)
    gone("ray._private.node:Node.kill_all_processes")
    with workers_end():
        assert not vars(plain)


@pytest.mark.parametrize("missing", [None, *lane_host.GROUP_NAMES[1:3]])
def test_lanes_are_started_by_rays_own_trainer(
    missing: str | None, gone: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    from raytune_ft.execution.lanes.lane_group import LaneTrainer

    experiment = Experiment.model_validate({"name": "toy", "base_model": "none", "data": {"train": "none"}})
    host = LaneHost(experiment, tmp_path, None, None, own=True)
    assert isinstance(host._trainer(scaling_config=ScalingConfig()), LaneTrainer)
    if missing:
        gone(missing)
    else:
        monkeypatch.setenv(PATCHES, "0")
    for lane in (0, 1):
        trainer = host._trainer(scaling_config=ScalingConfig(), train_loop_config={"lane": lane})
    assert [line.partition(" any more")[0] for line in host.notices] == (
        [f"ray {ray.__version__} has no {missing.replace(':', '.')}"] if missing else []
    )
    assert type(trainer) is TorchTrainer
    assert trainer.backend_config.backend == "gloo" and trainer.train_loop_config == {"lane": 1}


def test_ray_tune_counts_its_users(gone: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = importlib.import_module("ray.air._internal.usage")
    counts = usage.tag_callbacks
    with tuning._counting_no_users():
        assert usage.tag_callbacks is not counts
    monkeypatch.setenv(PATCHES, "0")
    with tuning._counting_no_users():
        assert usage.tag_callbacks is counts
    monkeypatch.delenv(PATCHES)
    gone("ray.air._internal.usage:tag_callbacks")
    with tuning._counting_no_users():
        assert not hasattr(usage, "tag_callbacks")


def test_an_ingress_listens_as_serve_has_it(
    gone: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(DIRECT, "1")
    http_util = importlib.import_module("ray.serve._private.http_util")
    before = http_util.set_socket_reuse_port
    gone("ray.serve._private.replica:start_asgi_http_server")
    listen_again()
    assert http_util.set_socket_reuse_port is before and "start_asgi_http_server" in caplog.text


def test_serves_proxy_has_the_endpoints_port_where_no_ingress_can(gone: Callable[[str], None]) -> None:
    assert port_of_proxy(8000, 9000) == 9000
    gone("ray.serve._private.constants:RAY_SERVE_ENABLE_DIRECT_INGRESS")
    assert port_of_proxy(8000, 9000) == 8000


def test_a_ray_that_may_be_open_to_the_network_says_so(
    gone: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gone("ray._private.ray_constants:ENABLE_RAY_CLUSTER")
    with ray_on_loopback():
        assert private_names.os.environ.items() >= LOOPBACK_ENVIRONMENT.items()  # what Ray's processes still read
    gone("ray.serve._private.replica:add_port_to_grpc_server")
    for name, value in LOOPBACK_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    keep_replica_on_loopback()
    assert len([each for each in caplog.messages if "open to the network" in each]) == 2


def test_a_token_is_kept_where_it_cannot_be_read_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raylet = importlib.import_module("ray._raylet")
    asked: list[str] = []
    monkeypatch.setattr(raylet, "AuthenticationTokenLoader", SimpleNamespace())
    monkeypatch.setattr(raylet, "Config", SimpleNamespace(initialize=asked.append))
    read_token_anew()
    assert not asked and "reset_cache" in caplog.text


def test_vllms_lora_on_a_cpu_stays_as_it_is_and_the_danger_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class PunicaWrapperCPU:
        def update_metadata(self) -> None: ...

    module = SimpleNamespace(PunicaWrapperCPU=PunicaWrapperCPU, bgmv_shrink=print)
    monkeypatch.setitem(sys.modules, "vllm.lora.punica_wrapper.punica_cpu", module)
    monkeypatch.delitem(sys.modules, "raytune_ft.serving.engine.cpu_lora", raising=False)
    before = dict(vars(PunicaWrapperCPU))
    importlib.import_module("raytune_ft.serving.engine.cpu_lora")
    monkeypatch.delitem(sys.modules, "raytune_ft.serving.engine.cpu_lora")
    assert dict(vars(PunicaWrapperCPU)) == before and module.bgmv_shrink is print
    assert "may be answered by it" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
