"""Finds the devices that a cluster's nodes compute on, and picks a study's number type (`train.dtype`) for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.number_type import NOT_IN_FLOAT16
from raytune_ft.data.base_model import model_config
from raytune_ft.errors import RaytuneError
from raytune_ft.hardware.device import Device, common_type, fast_types

Probe = Callable[[list[str], bool, int], dict[str, Device]]
"""A function `probe(nodes, on_gpu, threads)` that returns each node's device, by the node's id."""
GPU_SHARE = 0.01
"""Share of a GPU that the probing task reserves, so that it sees the GPUs that Ray manages, and no others."""
ANSWER_S = 60.0
"""Seconds that a node may take to answer."""
UNSEEN_GPU = Device("a GPU that PyTorch does not see", (0, 0))


def probe_nodes(nodes: list[str], on_gpu: bool, threads: int) -> dict[str, Device]:
    """Asks each of these nodes for its device, by a Ray task there; one that does not answer is left out.

    Args:
        nodes: Ids of the nodes.
        on_gpu: Whether to look at GPUs; of several on a node, the one of the lowest capability is returned.
        threads: Number of threads that a worker computes with on a CPU.

    Returns:
        The device of each node that answered, by the node's id.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # The process ends with the task, as it has opened a GPU.
    look: Any = ray.remote(num_cpus=0, max_calls=1 if on_gpu else 0)(_look)

    def ask(node: str, share: float) -> Any:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        return look.options(scheduling_strategy=there, num_gpus=share).remote(on_gpu, share > 0, threads)

    asked = {ask(node, GPU_SHARE if on_gpu else 0.0): node for node in nodes}
    ready, busy = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S) if asked else ([], [])
    answers = {asked[answer]: answer for answer in ready}
    for answer in busy:
        ray.cancel(answer, force=True)
        if on_gpu:  # other tasks hold all GPUs: the node is asked again, without a reservation
            answers[asked[answer]] = ask(asked[answer], 0.0)
    found: dict[str, Device] = {}
    for node, answer in answers.items():
        try:
            found[node] = ray.get(answer, timeout=ANSWER_S)
        except ray.exceptions.RayError:
            continue
    return found


def _look(on_gpu: bool, holds_one: bool, threads: int) -> Device:
    from raytune_ft.hardware.here import cpu_here, gpus_here

    if not on_gpu:
        return cpu_here(threads)
    if not holds_one:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides all GPUs from a task that reserves none
    return min(gpus_here(), key=lambda gpu: gpu.capability or (0, 0), default=UNSEEN_GPU)


def threads_of(experiment: Experiment) -> int:
    """Returns the number of threads that one worker computes with on a CPU."""
    return max(1, int(experiment.resources.cpus_per_worker))


class LaneNodes:
    """The nodes that lanes may run on: those that are fast in the study's number type.

    Args:
        experiment: The experiment, with its `train.dtype` decided.
        probe: Looks at nodes that have joined.
        known: Ids of nodes that are known to be fast in that type.
    """

    def __init__(self, experiment: Experiment, probe: Probe = probe_nodes, known: Iterable[str] = ()) -> None:
        self._experiment, self._probe = experiment, probe
        self._lacking = dict.fromkeys(known, False)  # these decided the type; measured again, a tie could turn
        self._looking = threading.Lock()  # lanes start in threads of their own

    def selector(self) -> tuple[dict[str, str] | None, list[str]]:
        """Returns Ray's label selector for the workers of a lane that starts now, and lines for the user.

        Nodes that joined since the last call are looked at first.

        Returns:
            The selector, None where no node is left out; and a line about each new node that is left out.
        """
        with self._looking:
            return self._selector()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_looking": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._looking = threading.Lock()

    def _selector(self) -> tuple[dict[str, str] | None, list[str]]:
        new = [node for node in nodes_with_room(self._experiment) if node not in self._lacking]
        on_gpu, wanted = bool(self._experiment.resources.gpus_per_worker), self._experiment.train.number_type
        lines = []
        for node, device in (self._probe(new, on_gpu, threads_of(self._experiment)) if new else {}).items():
            self._lacking[node] = wanted not in fast_types(device)
            if self._lacking[node]:
                lines.append(f"node {node[:8]} gets no lane: {device.name} is not fast in {wanted}, the study's type")
        lacking = sorted(node for node, lacks in self._lacking.items() if lacks)
        return ({"ray.io/node-id": f"!in({', '.join(lacking)})"} if lacking else None), lines


def nodes_with_room(experiment: Experiment) -> list[str]:
    """Returns the ids of the live nodes that are large enough for a worker."""
    import ray

    resources = experiment.resources
    per_worker = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    return [
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and all(node["Resources"].get(kind, 0.0) >= each for kind, each in per_worker.items())
    ]


@dataclass(frozen=True)
class Decision:
    """The number type that a study computes in, and the devices of its nodes.

    Attributes:
        experiment: The experiment, with that type as its `train.dtype`.
        devices: The devices, one for each node that could hold a worker.
        nodes: The nodes that lanes may run on; None where any may, as the user or an earlier driver chose the type.
    """

    experiment: Experiment
    devices: tuple[Device, ...]
    nodes: LaneNodes | None


def decide_number_type(
    experiment: Experiment,
    log: Callable[[str], None] = lambda line: None,
    probe: Probe = probe_nodes,
    *,
    isolated: bool = False,
) -> Decision:
    """Picks the number type that all nodes which could hold a worker are fast in; Ray has to be connected.

    An experiment whose `train.dtype` is not `auto` keeps it, on any machine.

    Args:
        experiment: The experiment to train.
        log: Is called with a line about the decision.
        probe: Looks at the nodes.
        isolated: Whether each trial has workers of its own, which on CPUs can't train in float16.

    Raises:
        RaytuneError: No node answered.
    """
    on_gpu = bool(experiment.resources.gpus_per_worker)
    found = probe(nodes_with_room(experiment), on_gpu, threads_of(experiment))
    devices = tuple(found.values())
    if experiment.train.dtype != "auto":
        return Decision(experiment, devices, None)
    if not devices:
        raise RaytuneError("train.dtype: no node said what it computes on; set train.dtype, or see the nodes' logs")
    number_type = common_type(devices, float16=_may_be_float16(experiment, isolated=isolated))
    kinds = list(dict.fromkeys(_words(device) for device in devices))
    log(f"train.dtype: {number_type}, which {' and '.join(kinds)} {'is' if len(kinds) == 1 else 'are'} fast in")
    decided = experiment.computing_in(number_type)
    return Decision(decided, devices, LaneNodes(decided, probe, found))


def _may_be_float16(experiment: Experiment, *, isolated: bool) -> bool:
    on_cpu = not experiment.resources.gpus_per_worker
    return not (isolated and on_cpu) and model_config(experiment.base_model).get("model_type") not in NOT_IN_FLOAT16


def _words(device: Device) -> str:
    rates = ", ".join(f"{each} {rate:.0f}" for each, rate in device.gflops.items())
    return f"{device.name} ({rates} GFLOP/s)" if rates else device.name
