"""The number type that an endpoint's engines compute in."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from typing import Any

from raytune_ft.config.number_type import NumberType
from raytune_ft.errors import InputError
from raytune_ft.execution.devices import probe_nodes
from raytune_ft.hardware.device import Device, holding_type
from raytune_ft.serving.settings import ServeArgs


def in_served_type(args: ServeArgs, trained_in: Collection[NumberType], devices: Collection[Device]) -> ServeArgs:
    """Replaces the `dtype` `auto` by the type that the devices prefer among those that can hold the trained weights.

    On a CPU the preferred type is the one that answers several requests at once fastest. There matrix products are the
    bottleneck; for a single request it is memory, so bfloat16 may then be faster even where it is emulated.

    Args:
        args: The endpoint's arguments.
        trained_in: Number types in which the served versions were trained; empty for a base alone.
        devices: Devices on which the engines may run.
    """
    if args.dtype != "auto":
        return args
    return args.model_copy(update={"dtype": holding_type(devices, trained_in)})


def devices_of_cluster(gpus: int) -> list[Device]:
    """Returns the devices of the cluster's nodes on which an engine with `gpus` GPUs, or a part of it, may run.

    Raises:
        InputError: No node could be asked.
    """
    ray: Any = importlib.import_module("ray")
    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = [node["NodeID"] for node in alive if not gpus or node["Resources"].get("GPU", 0.0) > 0]
    threads = int(min((node["Resources"].get("CPU", 1.0) for node in alive), default=1.0))
    found = list(probe_nodes(nodes, gpus > 0, max(1, threads)).values())
    if not found:
        raise InputError("args.dtype", "auto, and no node is there to ask what it is fast in", "name the type")
    return found
