"""Estimates a worker's peak memory, process and activations included, and compares it with what the machine has."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raytune_ft.config.attention import Attention, lane_kernel
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.number_type import WIDTHS
from raytune_ft.config.training import Isolated, Lane
from raytune_ft.data.base_model import model_config
from raytune_ft.methods.weights.adapter_size import MIB
from raytune_ft.search.planning.bounds import bounds, ranks
from raytune_ft.search.planning.groups import Groups, packs_of
from raytune_ft.search.planning.memory.activations import (
    Pass,
    Shape,
    lane_evaluation_bytes,
    lane_training_bytes,
    trl_training_bytes,
)
from raytune_ft.search.planning.memory.weights import WorkerMemory
from raytune_ft.search.planning.row_lengths import RowLengths
from raytune_ft.search.planning.span import Span
from raytune_ft.search.planning.work import Work
from raytune_ft.training.kernel_cache import KERNELS, KERNELS_PER_STEP
from raytune_ft.training.main_memory import main_memory

LANE_PROCESS_MIB = 570.0
"""MiB of Python, PyTorch (CPU), Ray, transformers and kernels' buffers in a lane's worker, on `plan.MEASURED_ON`."""
ISOLATED_PROCESS_MIB = 800.0
"""The same for an isolated worker, with TRL, PEFT and `datasets`."""
CUDA_PROCESS_MIB = 64.0
"""MiB of workspaces for matrix products on a GPU, where only PyTorch's allocator counts, without the process."""
CELLS = 1.15
"""Cells of attention's padded rectangles per token, for rows of similar length."""
HEAP_GROWTH, HEAP_STEPS = 1.35, 20.0
"""On a CPU, the share by which a pass outgrows its tensors, and the steps in which this builds up: no two steps have
tensors of the same sizes, and glibc's heaps keep the gaps. Measured with the lane's step on SmolLM2-135M: with batches
of 4, 8 and 16 rows, the memory was 2.2 to 2.3 times that of the tensors after 60 steps."""
KERNEL_MIB = 0.45
"""MiB of a kernel that oneDNN compiled, in that measurement; a CPU worker keeps `kernel_cache.KERNELS` of them."""
HEAP_TENSOR_MIB = 32.0
"""MiB above which tensors lie outside of the heaps, and are given back at once."""


@dataclass(frozen=True)
class Peak:
    """The peak memory of a worker that trains the space's largest configuration, in MiB, by part.

    Attributes:
        process: Interpreter and libraries; on a GPU, the allocator's workspaces.
        base: The frozen weights of the base model.
        loading: What loading takes on top of `base`; it is freed before training.
        adapters: Adapters, gradients and optimizers of all packed trials.
        activations: What one pass takes, with the gaps that such passes leave in the heap.
        packed: How many trials are packed.
        whole: The peak of all parts, over the space: of its smallest configuration, of its largest as lanes likely pack
            it, and of the largest with as many as a lane may pack if that turns out faster. No pack outgrows memory.
    """

    process: float
    base: float
    loading: float
    adapters: float
    activations: float
    packed: int
    whole: Span


def peak_memory(
    experiment: Experiment,
    runner: Lane | Isolated,
    memory: WorkerMemory | None,
    rows: RowLengths | None,
    work: Work,
    groups: Groups,
) -> Peak | None:
    """Returns a worker's peak memory; None where the weights, the model's shape or the length of rows is unknown.

    Args:
        experiment: The study's experiment.
        runner: The runner.
        memory: What weights and optimizer take.
        rows: How long the training rows are.
        work: The work of the study; a lane's workers take its steps one after another.
        groups: The worker groups that share the trials, and the memory that they have.
    """
    shape = Shape.of(model_config(experiment.base_model))
    if memory is None or memory.adapter_bytes is None or rows is None or shape is None:
        return None
    batch = bounds(experiment, "train.per_device_train_batch_size")
    rank = ranks(experiment)
    known = _Known(experiment, runner, memory, rows, shape)
    own = groups.count if isinstance(runner, Lane) else work.trials

    def of_largest(packed: int, steps: float) -> _Parts:
        return _parts(known, batch.most, 1.0, packed, steps / own)

    wanted = packs_of(experiment, runner, rows, groups.count)
    packs = groups.packed(wanted, lambda packed: of_largest(packed, work.steps.likely).sum)
    likely = packs.likely(groups.token_s)
    smallest = _parts(known, batch.least, rank.least / rank.most, 1, work.steps.low / own)
    largest = of_largest(likely, work.steps.likely)
    packed = of_largest(packs.most, work.steps.high)
    return Peak(
        process=largest.process,
        base=largest.base,
        loading=largest.loading,
        adapters=largest.adapters,
        activations=largest.activations,
        packed=likely,
        whole=Span(smallest.sum, largest.sum, packed.sum).rounded(1),
    )


@dataclass(frozen=True)
class _Parts:
    process: float
    base: float
    loading: float
    adapters: float
    activations: float

    @property
    def sum(self) -> float:
        return self.process + self.base + max(self.loading, self.adapters + self.activations)


@dataclass(frozen=True)
class _Known:
    experiment: Experiment
    runner: Lane | Isolated
    memory: WorkerMemory
    rows: RowLengths
    shape: Shape


def _parts(known: _Known, batch: int, rank_share: float, packed: int, steps: float) -> _Parts:
    """Returns the memory of a worker after `steps` steps, on batches of `batch` rows, by part.

    Args:
        known: The study.
        batch: Rows of each trial in a pass.
        rank_share: The adapters' rank, as a share of the space's largest.
        packed: How many trials are packed.
        steps: Steps that the worker has done.
    """
    train, rows, memory = known.experiment.train, known.rows, known.memory
    on_gpu, lane = bool(known.experiment.resources.gpus_per_worker), isinstance(known.runner, Lane)
    width = rows.width()
    of = Pass(
        tokens=packed * rows.of_batch(batch) * CELLS if lane else batch * rows.sequences * max(width, rows.mean),
        width=width,
        answers=packed * batch * rows.sequences * rows.answers,
        rank=round(rank_share * ranks(known.experiment).most),
        dtype_bytes=WIDTHS[train.number_type],
        checkpointing=train.gradient_checkpointing,
        math=_math(train.attn_implementation, lane=lane, on_gpu=on_gpu),
    )
    if lane:
        evaluation = lane_evaluation_bytes(known.shape, of, rows.answers / rows.mean)
        used, process = max(lane_training_bytes(known.shape, of), evaluation), LANE_PROCESS_MIB
    else:
        used, process = trl_training_bytes(known.shape, of), ISOLATED_PROCESS_MIB
    state = (memory.adapter_bytes or 0) + (memory.gradient_bytes or 0)
    if not (memory.optimizer_on_host and on_gpu):
        state += memory.optimizer_bytes or 0
    copies = 4 if memory.full else 12  # bytes per weight of a checkpoint: of the model alone, or with the optimizer
    saving = 0 if on_gpu else copies * (memory.adapter_parameters or 0)
    largest_mib = of.tokens * known.shape.intermediate * of.dtype_bytes / MIB
    heap = 1.0 if on_gpu or largest_mib > HEAP_TENSOR_MIB else 1.0 + HEAP_GROWTH * (1 - math.exp(-steps / HEAP_STEPS))
    kernels = min(KERNELS, KERNELS_PER_STEP * steps) * KERNEL_MIB
    return _Parts(
        process=CUDA_PROCESS_MIB if on_gpu else process + kernels,
        base=memory.base_bytes / MIB,
        loading=0.0 if on_gpu else memory.base_bytes / MIB,
        adapters=rank_share * (packed * state + saving) / MIB,
        activations=heap * used / MIB,
    )


def _math(attention: Attention, *, lane: bool, on_gpu: bool) -> bool:
    return lane_kernel(attention, on_gpu=on_gpu) == "math" if lane else attention == "eager"


@dataclass(frozen=True)
class DeviceMemory:
    """The memory of the GPU or machine that the command runs on, or what its container may use.

    Attributes:
        total: All of it, MiB.
        free: What is unused now, MiB.
        device: Name of the device, for a person.
    """

    total: float
    free: float
    device: str


def memory_here(on_gpu: bool) -> DeviceMemory | None:
    """Returns the GPU's memory if workers use one, else the machine's; None if there is no GPU here."""
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            return None
        free, total = torch.cuda.mem_get_info()
        return DeviceMemory(total / MIB, free / MIB, torch.cuda.get_device_name())
    memory = main_memory()
    return DeviceMemory(memory.total / MIB, memory.free / MIB, "this machine")


def too_large(experiment: Experiment, peak: Peak | None, room: DeviceMemory | None) -> tuple[str, ...]:
    """Returns a warning if the space's largest configuration, or even its smallest, outgrows memory, else ()."""
    if peak is None or room is None or peak.whole.likely <= room.total:
        return ()
    has = f"{room.device} has {room.total:,.0f} MiB"
    if peak.whole.low > room.total:
        what = f"even the smallest configuration takes {peak.whole.low:,.0f} MiB at its peak, {has}"
    else:
        most = f"{peak.whole.likely:,.0f} MiB at its peak"
        what = f"the largest configuration of the space takes {most}, {has}, and trials like it end out_of_memory"
    batch = bounds(experiment, "train.per_device_train_batch_size")
    remedies = [
        "lower train.per_device_train_batch_size" if batch.most > 1 else "lower data.max_length",
        *([] if experiment.train.gradient_checkpointing else ["set train.gradient_checkpointing: true"]),
        "shard with resources.strategy: {type: deepspeed, zero_stage: 3}",
        "run it where there is more",
    ]
    return (f"memory: {what}; {', '.join(remedies[:-1])}, or {remedies[-1]}",)
