"""The most memory that a worker will hold, process and activations included, against what the machine has."""

from __future__ import annotations

from dataclasses import dataclass

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Isolated, Lane
from raytune_ft.data.base_model import model_config
from raytune_ft.search.activations import (
    Pass,
    Shape,
    lane_evaluation_bytes,
    lane_training_bytes,
    trl_training_bytes,
)
from raytune_ft.search.bounds import bounds
from raytune_ft.search.memory import WorkerMemory
from raytune_ft.search.row_lengths import RowLengths
from raytune_ft.search.span import Span

MIB = 2**20
LANE_PROCESS_MIB = 570.0
"""Python, PyTorch (CPU), Ray, transformers and the kernels' own buffers in a lane's worker; on `plan.MEASURED_ON`."""
ISOLATED_PROCESS_MIB = 800.0
"""The same with TRL, PEFT and `datasets`."""
CUDA_PROCESS_MIB = 64.0
"""On a GPU PyTorch's allocator is looked at, which knows nothing of the process; its workspaces for products."""
SMALL_PASS = 768
"""Passes with fewer tokens are packed from the start; the lane's `SMALL`."""
MOST_PACKED = 64
"""The lane's `MOST`."""
CELLS = 1.15
"""Cells of attention's rectangles for each token of rows of similar length."""


@dataclass(frozen=True)
class Peak:
    """MiB of a worker of the largest configuration, by part.

    Attributes:
        process: Interpreter and libraries; on a GPU, the allocator's workspaces.
        base: The frozen weights.
        loading: More than `base`, while it is loaded; over before training.
        adapters: With gradients and optimizers, of all trials that are packed.
        activations: Of one pass.
        packed: Trials in it.
        whole: The peak of all that, over the space: its smallest configuration, its largest, and the largest that a
            lane may pack if that turns out faster.
    """

    process: float
    base: float
    loading: float
    adapters: float
    activations: float
    packed: int
    whole: Span


def peak_memory(
    experiment: Experiment, runner: Lane | Isolated, memory: WorkerMemory | None, rows: RowLengths | None, groups: int
) -> Peak | None:
    """Works it out; None where the weights, the shape of the model, or the length of rows are unknown.

    Args:
        experiment: The study's.
        runner: Who trains.
        memory: Of weights and optimizer.
        rows: Of the data.
        groups: Worker groups that share the trials.
    """
    shape = Shape.of(model_config(experiment.base_model))
    if memory is None or memory.adapter_bytes is None or rows is None or shape is None:
        return None
    batch = bounds(experiment, "train.per_device_train_batch_size")
    rank = bounds(experiment, "method.r")
    first, most = packs(experiment, runner, rows, groups)
    smallest = _parts(experiment, runner, memory, rows, shape, batch.least, rank.least, rank.most, 1)
    largest = _parts(experiment, runner, memory, rows, shape, batch.most, rank.most, rank.most, first)
    packed = _parts(experiment, runner, memory, rows, shape, batch.most, rank.most, rank.most, most)
    return Peak(
        process=largest.process,
        base=largest.base,
        loading=largest.loading,
        adapters=largest.adapters,
        activations=largest.activations,
        packed=first,
        whole=Span(smallest.sum, largest.sum, packed.sum).rounded(1),
    )


def packs(experiment: Experiment, runner: Lane | Isolated, rows: RowLengths, groups: int) -> tuple[int, int]:
    """Trials that a lane packs at first and at most."""
    search = experiment.search
    at_once = min(search.max_concurrent, search.trials) if search else 1
    share = min(MOST_PACKED, -(-at_once // groups))
    if isinstance(runner, Isolated):
        return 1, 1
    if isinstance(runner.packed, int):
        return min(runner.packed, share), min(runner.packed, share)
    tokens = rows.mean * bounds(experiment, "train.per_device_train_batch_size").least
    first = 1
    while first * 2 <= share and first * tokens < SMALL_PASS:
        first *= 2
    most = 1 << (share.bit_length() - 1)
    return first, max(first, most)


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


def _parts(
    experiment: Experiment,
    runner: Lane | Isolated,
    memory: WorkerMemory,
    rows: RowLengths,
    shape: Shape,
    batch: int,
    rank: int,
    largest_rank: int,
    packed: int,
) -> _Parts:
    train, on_gpu = experiment.train, bool(experiment.resources.gpus_per_worker)
    lane = isinstance(runner, Lane)
    tokens = rows.of_batch(batch)
    width = rows.width()
    of = Pass(
        tokens=packed * tokens * CELLS if lane else batch * max(width, rows.mean),
        width=width,
        answers=packed * batch * rows.answers,
        rank=rank,
        dtype_bytes=2 if train.bf16 else 4,
        checkpointing=train.gradient_checkpointing,
        math=not on_gpu if lane else train.attn_implementation == "eager",
    )
    if isinstance(runner, Lane):
        used = max(lane_training_bytes(shape, of), lane_evaluation_bytes(shape, of, rows.answers / rows.mean))
        process = CUDA_PROCESS_MIB if on_gpu else LANE_PROCESS_MIB
    else:
        used = trl_training_bytes(shape, of)
        process = CUDA_PROCESS_MIB if on_gpu else ISOLATED_PROCESS_MIB
    state = (memory.adapter_bytes or 0) + (memory.gradient_bytes or 0)
    if not (memory.optimizer_on_host and on_gpu):
        state += memory.optimizer_bytes or 0
    saving = 0 if on_gpu else 12 * (memory.adapter_parameters or 0)  # a checkpoint's copies
    share = rank / largest_rank
    return _Parts(
        process=process,
        base=memory.base_bytes / MIB,
        loading=0.0 if on_gpu else memory.base_bytes / MIB,
        adapters=share * (packed * state + saving) / MIB,
        activations=used / MIB,
    )


@dataclass(frozen=True)
class Room:
    """Memory of the machine that the command runs on.

    Attributes:
        total: MiB.
        free: MiB of it that nobody holds now.
        device: Whose.
    """

    total: float
    free: float
    device: str


def room_here(on_gpu: bool) -> Room | None:
    """The GPU's where workers take one, else the machine's; None where there is no such GPU here."""
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            return None
        free, total = torch.cuda.mem_get_info()
        return Room(total / MIB, free / MIB, torch.cuda.get_device_name())
    import psutil

    memory = psutil.virtual_memory()
    return Room(memory.total / MIB, memory.available / MIB, "this machine")
