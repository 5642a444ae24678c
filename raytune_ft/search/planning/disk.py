"""What a sweep takes on disk: the checkpoints of all its trials, which stay also where a trial lost."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import DeepSpeed, Isolated, Lane
from raytune_ft.paths import nearest_directory
from raytune_ft.search.planning.bounds import ranks
from raytune_ft.search.planning.memory import ADAM_BYTES, OWN_COPY_BYTES, WorkerMemory
from raytune_ft.search.planning.span import Span
from raytune_ft.search.planning.work import Work

MIB = 2**20
KEPT = 3
"""Checkpoints of a trial: a lane's best and its last two; Ray Train's best two and its last."""


@dataclass(frozen=True)
class Disk:
    """MiB below `output_dir`.

    Attributes:
        checkpoints: Of all trials.
        free: Of the file system, now.
        directory: Whose file system that is: `output_dir`, or the nearest directory above it that is there.
    """

    checkpoints: Span
    free: float
    directory: str


def disk_of(
    experiment: Experiment, runner: Lane | Isolated, memory: WorkerMemory | None, work: Work, at_once: int
) -> Disk | None:
    """Works it out; None where the weights that move are not known.

    Args:
        experiment: The study's.
        runner: Who trains.
        memory: Whose `adapter_parameters` move.
        work: Its trials and reports; each report makes a checkpoint.
        at_once: Trials that run at the same time; each writes a further checkpoint before it removes one.
    """
    if memory is None or memory.adapter_parameters is None:
        return None
    running, ended = _bytes_a_weight(experiment, runner, memory.full)
    rank, mixed = ranks(experiment), memory.full and len(set(experiment.methods)) > 1
    smallest = 0.0 if mixed else 1.0 if memory.full else rank.least / rank.most
    likely, most = (max(1.0, min(float(KEPT), n / work.trials)) for n in (work.reports.likely, work.reports.high))
    whole = Span(
        smallest * work.trials * ended,
        (1.0 + smallest) / 2 * (likely * work.trials * ended + at_once * ((likely + 1) * running - likely * ended)),
        most * work.trials * ended + at_once * ((most + 1) * running - most * ended),
    )
    directory = nearest_directory(Path(experiment.output_dir))
    free = shutil.disk_usage(directory).free / MIB
    return Disk((whole * (memory.adapter_parameters / MIB)).rounded(1), free, str(directory))


def too_full(disk: Disk | None) -> tuple[str, ...]:
    """A warning where the sweep will likely not find room."""
    if disk is None or disk.checkpoints.likely <= disk.free:
        return ()
    what = f"checkpoints of all trials take about {disk.checkpoints.likely:,.0f} MiB"
    return (f"output_dir: {what}, {disk.directory} has {disk.free:,.0f} MiB free; free some, or set it elsewhere",)


def _bytes_a_weight(experiment: Experiment, runner: Lane | Isolated, full: bool) -> tuple[int, int]:
    """Of a checkpoint while its trial runs: weights, moments, and DeepSpeed's weights again with a float32 copy.

    And of what stays when the trial has ended: an isolated one drops its optimizer.
    """
    if isinstance(runner, Lane):
        return 4 + ADAM_BYTES, 4 + ADAM_BYTES
    sharded = isinstance(experiment.resources.strategy, DeepSpeed)
    weights = 2 if full and sharded and experiment.train.number_type != "float32" else 4
    return weights + ADAM_BYTES + (weights + OWN_COPY_BYTES if sharded else 0), weights
