"""Estimates how fast a device trains, before a trial was measured on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Isolated, Lane
from raytune_ft.hardware.device import Device
from raytune_ft.methods.rooms import ROOMS
from raytune_ft.search.planning.memory.activations import Shape

FORWARD_FLOPS = 2
"""FLOPs per weight and token of a forward pass; those of a training step the method knows."""
LANE_REST, TRL_REST = 0.5, 2.0
"""What a step on a CPU takes besides its matrix products, relative to the time of these in float32: sums, norms,
attention and copies, which no number type makes much faster. Measured with SmolLM2-135M; benchmarks/lanes.py, plan."""
GPU_USE = 0.3
"""Assumed, not measured: the share of the data sheet's FLOP/s that LoRA reaches on a model that fills the device."""
GPU_FLOAT32_SHARE = 8.0
"""Assumed: how many times faster a GPU's tensor cores are in 16 bits than its float32."""
GPU_LAYER_S = 0.0015
"""Assumed: the least seconds of a layer's forward and backward pass on a GPU, however few its tokens."""
GPU_TFLOPS = {
    "H200": 989.0,
    "H100": 989.0,
    "GH200": 989.0,
    "B200": 2250.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "A10G": 70.0,
    "A10": 125.0,
    "A40": 150.0,
    "A6000": 155.0,
    "V100": 125.0,
    "T4": 65.0,
    "4090": 165.0,
    "3090": 71.0,
}
"""Part of a GPU's name -> dense 16-bit TFLOP/s by its maker's data sheet."""


@dataclass(frozen=True)
class Speed:
    """How fast one worker group trains.

    Attributes:
        train_s: Seconds per trained token.
        evaluate_s: Seconds per evaluated token.
        device: The device and its assumed speed, in words.
        measured: Whether the device's matrix products were measured, and not looked up.
    """

    train_s: float
    evaluate_s: float
    device: str
    measured: bool = True


def expected_speed(
    experiment: Experiment, runner: Lane | Isolated, shape: Shape, device: Device | None, pass_tokens: float
) -> Speed | None:
    """Returns the speed to expect before the first rung; None for an unknown device or GPU.

    Args:
        experiment: The experiment, with its number type decided.
        runner: The runner.
        shape: The base model's layers and widths.
        device: A worker's device; None if it is not known.
        pass_tokens: Tokens in a forward and backward pass of one worker.
    """
    if device is None:
        return None
    least_s = 0.0
    resources, weights, number_type = experiment.resources, shape.linear_weights, experiment.train.number_type
    reference = FORWARD_FLOPS * experiment.objective.reference_passes
    flops = max(ROOMS[method].flops() for method in experiment.methods) + reference
    if device.capability is not None:
        tflops = next((each for name, each in GPU_TFLOPS.items() if name in device.name.upper()), None)
        if tflops is None:
            return None
        tflops /= 1 if number_type in ("bfloat16", "float16") else GPU_FLOAT32_SHARE
        rate = tflops * 1e12 * GPU_USE * resources.workers * resources.gpus_per_worker
        seconds = 1.0 / rate
        least_s = GPU_LAYER_S * shape.layers / (pass_tokens * resources.workers)
        words = f"{device.name} at {GPU_USE:.0%} of {tflops:g} TFLOP/s, as stated"
    else:
        rest = LANE_REST if isinstance(runner, Lane) else TRL_REST
        products = device.gflops[number_type]
        seconds = (1 / products + rest / device.gflops["float32"]) / (1e9 * resources.workers)
        words = f"{device.name} with {products:.0f} GFLOP/s in {number_type} a worker, as measured now"
    again = 1.35 if experiment.train.gradient_checkpointing else 1.0
    train_s = max(flops * weights * seconds, least_s) * again
    return Speed(train_s, train_s / again * (FORWARD_FLOPS + reference) / flops, words, device.capability is None)


def slowest(devices: Iterable[Device], experiment: Experiment) -> Device | None:
    """Returns the slowest of a study's devices: CPUs by their measured speed, GPUs by their compute capability."""
    number_type = experiment.train.number_type
    return min(devices, key=lambda each: (each.capability or (0, 0), each.gflops.get(number_type, 0.0)), default=None)
