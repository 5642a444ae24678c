"""The number type of a study is decided by the devices of its nodes, and nodes that lack it get no lane."""

from __future__ import annotations

import pickle

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.errors import RaytuneError
from raytune_ft.execution import devices
from raytune_ft.execution.devices import LaneNodes, decide_number_type
from raytune_ft.hardware.device import Device

FAST = Device("EPYC (avx512_bf16)", gflops={"bfloat16": 400, "float16": 39, "float32": 180})
SLOW = Device("EPYC (avx2)", gflops={"bfloat16": 13, "float16": 12, "float32": 73})


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The config.json of the base."""
    config = {"model_type": "llama"}
    monkeypatch.setattr(devices, "model_config", lambda base_model: config)
    return config


def experiment(dtype: str = "auto") -> Experiment:
    values = {"name": "e", "base_model": "b", "data": {"train": "t"}, "train": {"dtype": dtype}}
    return Experiment.model_validate(values)


class Nodes:
    """A cluster whose nodes join one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **known: Device) -> None:
        self.known, self.probed = known, list[list[str]]()
        monkeypatch.setattr(devices, "nodes_with_room", lambda experiment: list(self.known))

    def probe(self, nodes: list[str], on_gpu: bool, threads: int) -> dict[str, Device]:
        self.probed.append(nodes)
        return {node: self.known[node] for node in nodes}


def test_the_type_is_what_all_nodes_are_fast_in_and_a_line_says_why(monkeypatch) -> None:
    lines: list[str] = []
    decision = decide_number_type(experiment(), lines.append, Nodes(monkeypatch, a=FAST, b=SLOW).probe)
    assert decision.experiment.train.number_type == "float32" and decision.devices == (FAST, SLOW)
    assert lines == [
        "train.dtype: float32, which EPYC (avx512_bf16) (bfloat16 400, float16 39, float32 180 GFLOP/s) and "
        "EPYC (avx2) (bfloat16 13, float16 12, float32 73 GFLOP/s) are fast in"
    ]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_type_that_was_chosen_stays_on_any_machine_and_any_node_gets_lanes(monkeypatch, dtype: str) -> None:
    lines: list[str] = []
    decision = decide_number_type(experiment(dtype), lines.append, Nodes(monkeypatch, a=SLOW).probe)
    assert (decision.experiment.train.number_type, decision.nodes, lines) == (dtype, None, [])


def test_a_node_that_joins_and_lacks_the_type_gets_no_lane_and_a_line_says_so(monkeypatch) -> None:
    cluster = Nodes(monkeypatch, a=FAST)
    nodes = LaneNodes(experiment("bfloat16"), cluster.probe)
    assert nodes.selector() == (None, [])
    cluster.known |= {"b" * 40: SLOW, "c" * 40: FAST}
    selector, lines = nodes.selector()
    assert selector == {"ray.io/node-id": f"!in({'b' * 40})"}
    assert lines == ["node bbbbbbbb gets no lane: EPYC (avx2) is not fast in bfloat16, the study's type"]
    assert nodes.selector() == (selector, [])  # told once
    assert cluster.probed == [["a"], ["b" * 40, "c" * 40]]  # each node is looked at once


def test_nodes_that_decided_the_type_are_not_measured_again_as_a_tie_could_turn(monkeypatch) -> None:
    cluster = Nodes(monkeypatch, a=Device("a CPU", gflops={"bfloat16": 101, "float32": 100}))
    nodes = decide_number_type(experiment(), probe=cluster.probe).nodes
    cluster.known["a"] = Device("a CPU", gflops={"bfloat16": 99, "float32": 100})
    assert nodes is not None and pickle.loads(pickle.dumps(nodes.selector())) == (None, [])
    assert len(cluster.probed) == 1


def test_float16_is_left_out_where_nothing_could_train_in_it(monkeypatch, base: dict[str, str]) -> None:
    arm = Nodes(monkeypatch, a=Device("a CPU", gflops={"bfloat16": 5, "float16": 90, "float32": 50}))
    assert decide_number_type(experiment(), probe=arm.probe).experiment.train.number_type == "float16"
    isolated = decide_number_type(experiment(), probe=arm.probe, isolated=True)
    assert isolated.experiment.train.number_type == "float32"
    base["model_type"] = "gemma3"
    assert decide_number_type(experiment(), probe=arm.probe).experiment.train.number_type == "float32"


def test_a_cluster_that_does_not_answer_decides_nothing(monkeypatch) -> None:
    silent = Nodes(monkeypatch)
    with pytest.raises(RaytuneError, match="no node said what it computes on"):
        decide_number_type(experiment(), probe=silent.probe)
    assert decide_number_type(experiment("float32"), probe=silent.probe).devices == ()
