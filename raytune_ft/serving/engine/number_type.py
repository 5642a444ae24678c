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
    """The arguments with a `dtype` that is not `auto`: the devices' preferred type that holds what was trained.

    On a CPU that is the one with which several requests at once are answered fastest: there products decide, for a
    single request memory does, and bfloat16 may be faster for it also where it is emulated.

    Args:
        args: The endpoint's.
        trained_in: Types of the versions that are served; none for a base alone.
        devices: On which engines may run.
    """
    if args.dtype != "auto":
        return args
    return args.model_copy(update={"dtype": holding_type(devices, trained_in)})


def devices_of_cluster(gpus: int) -> list[Device]:
    """The devices of the nodes of this cluster on which an engine with so many GPUs, or a part of it, may run.

    Raises:
        InputError: There is none to ask.
    """
    ray: Any = importlib.import_module("ray")
    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = [node["NodeID"] for node in alive if not gpus or node["Resources"].get("GPU", 0.0) > 0]
    threads = int(min((node["Resources"].get("CPU", 1.0) for node in alive), default=1.0))
    found = list(probe_nodes(nodes, gpus > 0, max(1, threads)).values())
    if not found:
        raise InputError("args.dtype", "auto, and no node is there to ask what it is fast in", "name the type")
    return found
