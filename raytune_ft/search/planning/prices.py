"""Finds which devices worker groups hold, how many, and what an hour of one costs."""

from __future__ import annotations

from collections.abc import Iterable

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Resources
from raytune_ft.errors import InputError

_ACCELERATOR = "accelerator_type:"  # Ray's resource that names a node's GPUs


def devices_of_group(resources: Resources) -> float:
    """Returns how many GPUs one worker group holds, or how many CPUs if it holds no GPU."""
    return resources.workers * (resources.gpus_per_worker or resources.cpus_per_worker)


def device_price(experiment: Experiment) -> float | None:
    """Returns the price of a device's hour on the cluster that Ray is connected to; of several devices, the dearest.

    Returns:
        The price; None where `search.budget.prices` lacks one for a device, and no cost is limited.

    Raises:
        InputError: `search.budget.cost` is set, and a device has no price.
    """
    budget = experiment.search.budget if experiment.search else None
    if budget is None or not budget.prices:
        return None
    devices = gpu_kinds() if experiment.resources.gpus_per_worker else ("cpu",)
    prices = {kind: budget.prices.get(kind, None if kind == "cpu" else budget.prices.get("gpu")) for kind in devices}
    missing = sorted(kind for kind, price in prices.items() if price is None)
    if missing and budget.cost is not None:
        known = ", ".join(sorted(budget.prices))
        what = f"no price for {missing[0]}, which trials would take ({known} has one)"
        raise InputError("search.budget.prices", what, f"add {missing[0]}: the price of its hour")
    return None if missing else max(price for price in prices.values() if price is not None)


def gpu_kinds() -> tuple[str, ...]:
    """Returns the kinds of GPUs in the cluster by Ray's names; `gpu` for a node that does not name its own."""
    import ray

    kinds = {_kind(node["Resources"]) for node in ray.nodes() if node["Alive"] and _gpus(node)}
    return tuple(sorted(kinds)) or ("gpu",)


def _gpus(node: dict[str, dict[str, float]]) -> float:
    return node["Resources"].get("GPU", 0.0)


def _kind(resources: Iterable[str]) -> str:
    return next((each.removeprefix(_ACCELERATOR) for each in resources if each.startswith(_ACCELERATOR)), "gpu")
