"""Finds the devices of the machine that this process runs on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.number_type import NumberType
from raytune_ft.hardware.device import PREFERRED, Device, holding_type
from raytune_ft.hardware.products import measured_products

_TOLD_APART = ("amx_bf16", "amx_fp16", "avx512_fp16", "avx512_bf16", "avx512f", "avx2")


def cpu_here(threads: int | None = None) -> Device:
    """Returns this machine's CPU with its measured speed in each type.

    Args:
        threads: Threads that a worker computes with; by default all cores that this process may use.
    """
    return Device(cpu_name(), gflops=measured_products(PREFERRED, threads or len(os.sched_getaffinity(0))))


def gpus_here() -> list[Device]:
    """Returns the GPUs that this process may use."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = range(torch.cuda.device_count())
    return [Device(torch.cuda.get_device_name(each), torch.cuda.get_device_capability(each)) for each in found]


def has_gpu() -> bool:
    """Tells whether the kernel knows of an NVIDIA or AMD GPU, without importing PyTorch, which takes a second."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()


def device_here() -> Device:
    """Returns the device on which a model in this process runs: the first GPU, or else the CPU."""
    return next(iter(gpus_here()), None) or cpu_here()


def in_type_of_this_machine(experiment: Experiment, log: Callable[[str], None] = lambda line: None) -> Experiment:
    """Returns the run's experiment with the type that this device prefers and that can represent the run's own."""
    own = experiment.train.dtype
    device = device_here()
    number_type = holding_type([device], [] if own == "auto" else [own])
    if own not in ("auto", number_type):
        log(f"computing in {number_type}, as {device.name} is not fast in {own}, the run's type")
    return experiment.computing_in(number_type)


def cpu_name() -> str:
    """Returns the CPU's model with its flags for matrix products, such as `AMD EPYC (avx512_bf16 avx2)`."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in _TOLD_APART if flag in facts.get("flags", "").split()]
    return f"{facts.get('model name', 'CPU')} ({' '.join(flags) or 'no vectors'})"


def torch_type(name: NumberType) -> Any:
    """Returns PyTorch's dtype of that name."""
    import torch

    return getattr(torch, name)
