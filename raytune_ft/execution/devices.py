"""What the nodes of a cluster compute on, and the number type that a study takes for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.hardware.device import Device, common_type, fast_types

Probe = Callable[[list[str], bool, int], dict[str, Device]]
"""`probe(nodes, on_gpu, threads)` -> node's id -> its device."""
UNSEEN_GPU = Device("a GPU that PyTorch does not see", (0, 0))


def probe_nodes(nodes: list[str], on_gpu: bool, threads: int) -> dict[str, Device]:
    """Asks each of these nodes for its device, by a Ray task there; a node that went away is left out.

    Args:
        nodes: Their ids.
        on_gpu: Of several GPUs on a node, the one of least capability is told.
        threads: That a worker computes with on a CPU.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Its process ends with it: it may have opened a GPU that is another's.
    look: Any = ray.remote(num_cpus=0, max_calls=1 if on_gpu else 0)(_look)
    asked = {
        node: look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(on_gpu, threads)
        for node in nodes
    }
    found: dict[str, Device] = {}
    for node, answer in asked.items():
        try:
            found[node] = ray.get(answer)
        except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError, ray.exceptions.WorkerCrashedError):
            continue
    return found


def _look(on_gpu: bool, threads: int) -> Device:
    from raytune_ft.hardware.here import cpu_here, gpus_here

    if not on_gpu:
        return cpu_here(threads)
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides all GPUs from who takes none
    return min(gpus_here(), key=lambda gpu: gpu.capability or (0, 0), default=UNSEEN_GPU)


def threads_of(experiment: Experiment) -> int:
    """Threads that one worker computes with on a CPU."""
    return max(1, int(experiment.resources.cpus_per_worker))


class LaneNodes:
    """The nodes that lanes may be on: those that are fast in the study's number type.

    Args:
        experiment: With its `train.dtype` decided.
        probe: Looks at nodes that have joined.
    """

    def __init__(self, experiment: Experiment, probe: Probe = probe_nodes) -> None:
        self._experiment, self._probe = experiment, probe
        self._lacking: dict[str, bool] = {}

    def selector(self) -> tuple[dict[str, str] | None, list[str]]:
        """Ray's label selector for the workers of a lane that starts now, and a line about each new node it leaves out.

        Nodes that joined since the last call are looked at first.
        """
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
    """Ids of the nodes that are there and could hold a worker."""
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
    """The type that a study computes in, and what its nodes compute on.

    Attributes:
        experiment: With that `train.dtype`.
        devices: One for each node that could hold a worker.
        nodes: Where lanes may be; None where that is any node, as the user or an earlier driver chose the type.
    """

    experiment: Experiment
    devices: tuple[Device, ...]
    nodes: LaneNodes | None


def decide_number_type(
    experiment: Experiment, log: Callable[[str], None] = lambda line: None, probe: Probe = probe_nodes
) -> Decision:
    """Takes the type that all nodes which could hold a worker are fast in; Ray has to be there.

    An experiment whose `train.dtype` is not `auto` keeps it, on any machine.
    """
    on_gpu = bool(experiment.resources.gpus_per_worker)
    devices = tuple(probe(nodes_with_room(experiment), on_gpu, threads_of(experiment)).values())
    if experiment.train.dtype != "auto":
        return Decision(experiment, devices, None)
    number_type = common_type(devices)
    kinds = list(dict.fromkeys(_words(device) for device in devices))
    log(f"train.dtype: {number_type}, which {' and '.join(kinds)} {'is' if len(kinds) == 1 else 'are'} fast in")
    decided = experiment.computing_in(number_type)
    return Decision(decided, devices, LaneNodes(decided, probe))


def _words(device: Device) -> str:
    rates = ", ".join(f"{each} {rate:.0f}" for each, rate in device.gflops.items())
    return f"{device.name} ({rates} GFLOP/s)" if rates else device.name
