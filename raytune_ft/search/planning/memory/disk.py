"""Estimates a sweep's disk space: whole checkpoints of trials that may go on, only weights of those that may win."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.rungs import brackets
from raytune_ft.config.search.schedulers import Bohb, Hyperband, Population
from raytune_ft.config.training import DeepSpeed, Isolated, Lane
from raytune_ft.methods.weights.adapter_size import MIB
from raytune_ft.paths import nearest_directory
from raytune_ft.search.planning.bounds import ranks
from raytune_ft.search.planning.memory.weights import ADAM_BYTES, OWN_COPY_BYTES, WorkerMemory
from raytune_ft.search.planning.span import Span
from raytune_ft.search.planning.work import Work
from raytune_ft.training.lane.sizes import KEPT_CHECKPOINTS


@dataclass(frozen=True)
class Disk:
    """The disk space that checkpoints take below `output_dir`, in MiB.

    Attributes:
        checkpoints: The peak.
        stays: What is left when the study has ended.
        trials: How many trials keep their weights, at most.
        free: What the file system has free now.
        directory: A directory on that file system: `output_dir`, or the nearest existing one above it.
    """

    checkpoints: Span
    stays: Span
    trials: int
    free: float
    directory: str


def disk_of(
    experiment: Experiment, runner: Lane | Isolated, memory: WorkerMemory | None, work: Work, at_once: int
) -> Disk | None:
    """Returns the disk space of the study's checkpoints; None where the number of trained weights is unknown.

    Args:
        experiment: The study's experiment.
        runner: The runner.
        memory: A worker's memory, whose `adapter_parameters` is the number of trained weights.
        work: The number of trials and reports; each report makes a checkpoint.
        at_once: How many trials run at the same time; each writes another checkpoint before it removes one.
    """
    if memory is None or memory.adapter_parameters is None:
        return None
    whole, weights = _bytes_a_weight(experiment, runner, memory)
    rank, mixed = ranks(experiment), len(experiment.artefacts) > 1
    smallest = 0.0 if mixed else 1.0 if memory.full else rank.least / rank.most
    mean = (1.0 + smallest) / 2
    likely, most = (
        max(1.0, min(float(KEPT_CHECKPOINTS), n / work.trials)) for n in (work.reports.likely, work.reports.high)
    )
    live = min(work.trials, max(at_once, _paused(experiment)))
    first, front = _staying(experiment, work.trials)
    ended = work.trials - live  # how many have ended at the peak, whose kept weights count there too
    peak = Span(
        smallest * (min(at_once, work.trials) * whole + min(first, ended) * weights),
        mean * ((live * likely + at_once) * whole + min(first, ended) * weights),
        (live * most + at_once) * whole + min(front, ended) * weights,
    )
    stays = Span(smallest * first * weights, mean * first * weights, float(front * weights))
    directory = nearest_directory(Path(experiment.output_dir))
    free = shutil.disk_usage(directory).free / MIB
    adapter = memory.adapter_parameters / MIB
    return Disk((peak * adapter).rounded(1), (stays * adapter).rounded(1), front, free, str(directory))


def _paused(experiment: Experiment) -> int:
    """Returns how many trials may go on or be copied at the same time, whether they run or are paused."""
    search = experiment.search
    match search.scheduler if search else None:
        case Hyperband() | Bohb() as scheduler:
            return max(each.trials for each in brackets(scheduler, experiment.train.max_steps))
        case scheduler if search and isinstance(scheduler, Population):
            return search.trials
        case _:
            return 1


def _staying(experiment: Experiment, trials: int) -> tuple[int, int]:
    """Returns how many trials keep their weights: at least, and at most, as when all are on the Pareto front."""
    search = experiment.search
    first = trials if search is None or search.keep_checkpoints == "all" else min(search.keep_checkpoints, trials)
    return first, trials if search and len(search.goals) > 1 else first


def too_full(disk: Disk | None) -> tuple[str, ...]:
    """Returns a warning if the checkpoints will likely not fit on the disk, else ()."""
    if disk is None or disk.checkpoints.likely <= disk.free:
        return ()
    what = f"checkpoints take about {disk.checkpoints.likely:,.0f} MiB at once"
    return (f"output_dir: {what}, {disk.directory} has {disk.free:,.0f} MiB free; free some, or set it elsewhere",)


def _bytes_a_weight(experiment: Experiment, runner: Lane | Isolated, memory: WorkerMemory) -> tuple[int, int]:
    """Returns the bytes per trained weight of a whole checkpoint, and of its weights alone.

    A whole one has weights and Adam's moments; DeepSpeed's has the weights again, and a float32 copy.
    """
    if isinstance(runner, Lane):
        return 4 + ADAM_BYTES, 4
    sharded = isinstance(experiment.resources.strategy, DeepSpeed)
    halved = memory.full and sharded and experiment.train.number_type != "float32"
    weights = 2 if halved else memory.weight_bytes
    return weights + 2 * memory.weight_bytes + (weights + OWN_COPY_BYTES if sharded else 0), weights
