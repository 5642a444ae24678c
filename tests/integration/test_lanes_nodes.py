"""A node of a lane goes away (fault 2), and a node that is not fast in the study's number type gets no lane."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Lane
from raytune_ft.execution.devices import LaneNodes
from raytune_ft.execution.lanes.entries import TrialEnded, TrialReport
from raytune_ft.execution.lanes.lanes import lanes
from raytune_ft.execution.local_ray.token import read_token_anew
from raytune_ft.hardware.device import Device
from raytune_ft.paths import RunDirectory, write_text
from raytune_ft.training.lane.orders import Drop, GoOn, LaneOrders, Quit, Start
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.spec import TrialSpec

FAST = Device("EPYC (avx512_bf16)", gflops={"bfloat16": 400, "float16": 39, "float32": 180})
SLOW = Device("EPYC (avx2)", gflops={"bfloat16": 13, "float16": 12, "float32": 73})
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import a test's file

EXPERIMENT = Experiment.model_validate({"name": "e", "base_model": "b", "data": {"train": "t"}})
STEPS = 60
NOTICED_SOON = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500}
"""A lost node is declared dead after five checks that it does not answer, by default 3 s apart."""


def slow_loop(experiment: Experiment, desk: LaneOrders, *, report_ready: Callable[[], None]) -> None:
    """Counts to STEPS, 20 a second, one trial at a time; the count is its checkpoint."""
    import time

    node = ray.get_runtime_context().get_node_id()
    report_ready()
    trial: TrialSpec | None = None
    step, waiting = 0, False
    while True:
        for order in desk.orders(0 if trial else 1, 1.0 if trial is None or waiting else 0.0):
            match order:
                case Start(spec=spec):
                    trial = spec
                    step = int(spec.directory.metrics.read_text()) if spec.directory.metrics.exists() else 0
                case GoOn():
                    waiting = False
                case Drop():
                    trial, waiting = None, False
                case Quit():
                    return
        if trial is None or waiting:
            continue
        time.sleep(0.05)
        step += 1
        write_text(trial.directory.metrics, str(step))  # its node may go at any moment
        if step % 10 == 0:
            desk.report(trial.trial_id, {"step": step, "node": node})
            waiting = step < STEPS
        if step == STEPS:
            desk.ended(trial.trial_id, Outcome(OutcomeKind.completed, f"ran all {step} steps", step))
            trial = None


def test_trials_of_a_lost_node_go_on_elsewhere_and_others_do_not_notice(tmp_path: Path) -> None:
    read_token_anew()  # the cluster reads it too, whatever other tests gave this process
    charged = EXPERIMENT.resources.model_copy(update={"max_failures": 0})  # with nothing that is no trial's doing
    experiment = EXPERIMENT.model_copy(update={"resources": charged})
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": NOTICED_SOON})
    second = cluster.add_node(num_cpus=1)
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        run = RunDirectory(tmp_path)
        names = ["0000", "0001"]
        nodes: dict[str, list[str]] = {name: [] for name in names}
        steps: dict[str, list[int]] = {name: [] for name in names}
        with lanes(experiment, Lane(), run, 2, slow_loop) as dispatcher:
            for name in names:
                ray.get(dispatcher.submit.remote(Start(TrialSpec.of(name, {}, experiment, run)), "test", 0))
            ended: dict[str, Outcome] = {}
            lost = False
            while len(ended) < 2:
                for name in set(names) - set(ended):
                    match ray.get(dispatcher.next_event.remote(name, 0.1)):
                        case TrialReport(metrics=metrics):
                            nodes[name].append(metrics["node"])
                            steps[name].append(metrics["step"])
                            ray.get(dispatcher.go_on.remote(name))
                        case TrialEnded(outcome=outcome):
                            ended[name] = outcome
                if not lost and all(steps.values()):
                    cluster.remove_node(second, allow_graceful=False)
                    lost = True
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert {outcome.kind for outcome in ended.values()} == {OutcomeKind.completed}, ended
    assert list(steps.values()) == [[10, 20, 30, 40, 50, 60]] * 2
    moved = next(name for name in names if nodes[name][0] == second.node_id)
    stayed = next(name for name in names if name != moved)
    assert len(set(nodes[stayed])) == 1 and set(nodes[moved]) == {second.node_id, *nodes[stayed]}


def probe(slow: str, nodes: list[str], on_gpu: bool, threads: int) -> dict[str, Device]:
    return {node: SLOW if node == slow else FAST for node in nodes}


def test_a_node_that_is_not_fast_in_the_type_gets_no_lane_and_a_line_says_so(tmp_path: Path) -> None:
    """The head, where the lane would be otherwise: its dispatcher runs there."""
    read_token_anew()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        head = ray.get_runtime_context().get_node_id()
        run, experiment = RunDirectory(tmp_path), EXPERIMENT.computing_in("bfloat16")
        allowed = LaneNodes(experiment, partial(probe, head))
        with lanes(experiment, Lane(), run, 1, slow_loop, nodes=allowed) as dispatcher:
            ray.get(dispatcher.submit.remote(Start(TrialSpec.of("0000", {}, experiment, run)), "test", 0))
            event = None
            while event is None:
                event = ray.get(dispatcher.next_event.remote("0000", 5.0))
            notices, again = (ray.get(dispatcher.notices.remote()) for _ in range(2))
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert isinstance(event, TrialReport) and event.metrics["node"] == second.node_id != head
    line = f"node {head[:8]} gets no lane: EPYC (avx2) is not fast in bfloat16, the study's type"
    assert (notices, again) == ([line], [])
