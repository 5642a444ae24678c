"""How fast a device is expected to train, before anything was measured on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Isolated, Lane
from raytune_ft.search.planning.activations import Shape

TRAINING_FLOPS = {"lora": 4, "full": 6}
"""Of a weight and token: 2 forward, 2 for the gradient by the activations, and 2 for that of a weight that moves."""
EVALUATION_FLOPS = 2
LANE_USE, TRL_USE = 0.45, 0.18
"""Share of a CPU's bf16 products that a step reaches; measured with SmolLM2-135M on two cores with AMX. On Zen 5,
whose products are faster, 0.33 and 0.06."""
GPU_USE = 0.3
"""Stated, not measured: what LoRA on a model that fills the device reaches of the data sheet."""
GPU_LAYER_S = 0.0015
"""Stated: a layer's forward and backward pass on a GPU takes so long at least, however few its tokens."""
ZEN_5 = "avx512_bf16 avx512_vp2intersect"
CORE_GFLOPS = {"amx_bf16": 190.0, ZEN_5: 510.0, "avx512_bf16": 200.0, "avx512f": 40.0, "avx2": 25.0}
"""CPU flags -> products in bfloat16 of a core; the first two were measured, the others are stated."""
CORE_FLOAT32_GFLOPS = {ZEN_5: 110.0, "avx512f": 60.0, "avx2": 35.0}
SLOWEST_CORE_GFLOPS = 8.0
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
"""Part of a GPU's name -> dense products in 16 bits, by its maker's data sheet."""


@dataclass(frozen=True)
class Speed:
    """Of one worker group.

    Attributes:
        train_s: Of a trained token.
        evaluate_s: Of an evaluated token.
        device: What was assumed, in words.
    """

    train_s: float
    evaluate_s: float
    device: str


def expected_speed(
    experiment: Experiment, runner: Lane | Isolated, shape: Shape, gpu: str | None, pass_tokens: float
) -> Speed | None:
    """Before the first rung; None for a GPU that is not known.

    Args:
        experiment: Whose workers and precision count.
        runner: Who trains.
        shape: Of the base.
        gpu: The GPU's name, if one is there.
        pass_tokens: Of a forward and backward pass of one worker.
    """
    least_s = 0.0
    resources, weights = experiment.resources, shape.linear_weights
    if resources.gpus_per_worker:
        tflops = next((each for name, each in GPU_TFLOPS.items() if gpu and name in gpu.upper()), None)
        if tflops is None:
            return None
        rate = tflops * 1e12 * GPU_USE * resources.workers * resources.gpus_per_worker
        least_s = GPU_LAYER_S * shape.layers / (pass_tokens * resources.workers)
        device = f"{gpu} at {GPU_USE:.0%} of {tflops:g} TFLOP/s"
    else:
        flag, gflops = core_gflops(experiment.train.bf16)
        use = LANE_USE if isinstance(runner, Lane) else TRL_USE
        rate = gflops * 1e9 * use * resources.workers * resources.cpus_per_worker
        device = f"CPU cores with {flag} at {use:.0%} of {gflops:g} GFLOP/s"
    again = 1.35 if experiment.train.gradient_checkpointing else 1.0
    flops = max(TRAINING_FLOPS[method] for method in experiment.methods)
    train_s = max(flops * weights / rate, least_s) * again
    return Speed(train_s, train_s / again * EVALUATION_FLOPS / flops, device)


@cache
def core_gflops(bf16: bool) -> tuple[str, float]:
    """The best flags of this machine's CPU, and what a core does with them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    has = set(next((line for line in lines if line.startswith("flags")), "").split())
    table = CORE_GFLOPS if bf16 else CORE_FLOAT32_GFLOPS
    known = ((flags, gflops) for flags, gflops in table.items() if has.issuperset(flags.split()))
    return next(known, ("no vectors", SLOWEST_CORE_GFLOPS))
