"""What a sweep takes on disk: whole checkpoints of trials that may go on, weights alone of those that may still win."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.rungs import brackets
from raytune_ft.config.search.schedulers import Bohb, Hyperband, Population
from raytune_ft.config.training import DeepSpeed, Isolated, Lane
from raytune_ft.paths import nearest_directory
from raytune_ft.search.planning.bounds import ranks
from raytune_ft.search.planning.memory.weights import ADAM_BYTES, OWN_COPY_BYTES, WorkerMemory
from raytune_ft.search.planning.span import Span
from raytune_ft.search.planning.work import Work
from raytune_ft.training.lane.sizes import KEPT_CHECKPOINTS
from raytune_ft.training.weights.adapter_size import MIB


@dataclass(frozen=True)
class Disk:
    """MiB below `output_dir`.

    Attributes:
        checkpoints: The most that there is at once.
        stays: What is left of it when the study has ended.
        trials: How many trials keep their weights, at most.
        free: What the file system has free now.
        directory: Lies on that file system: `output_dir`, or the nearest directory above it that is there.
    """

    checkpoints: Span
    stays: Span
    trials: int
    free: float
    directory: str


def disk_of(
    experiment: Experiment, runner: Lane | Isolated, memory: WorkerMemory | None, work: Work, at_once: int
) -> Disk | None:
    """Works it out; None where the weights that move are not known.

    Args:
        experiment: The study's.
        runner: Who trains.
        memory: Says how many parameters move, as `adapter_parameters`.
        work: The number of trials and reports; each report makes a checkpoint.
        at_once: Trials that run at the same time; each writes a further checkpoint before it removes one.
    """
    if memory is None or memory.adapter_parameters is None:
        return None
    whole, weights = _bytes_a_weight(experiment, runner, memory.full)
    rank, mixed = ranks(experiment), memory.full and len(set(experiment.methods)) > 1
    smallest = 0.0 if mixed else 1.0 if memory.full else rank.least / rank.most
    mean = (1.0 + smallest) / 2
    likely, most = (
        max(1.0, min(float(KEPT_CHECKPOINTS), n / work.trials)) for n in (work.reports.likely, work.reports.high)
    )
    live = min(work.trials, max(at_once, _paused(experiment)))
    first, front = _staying(experiment, work.trials)
    ended = work.trials - live  # at the peak, so that what stays of them is there too
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
    """Trials that may go on, or be copied, at the same time, whether they run or not."""
    search = experiment.search
    match search.scheduler if search else None:
        case Hyperband() | Bohb() as scheduler:
            return max(each.trials for each in brackets(scheduler, experiment.train.max_steps))
        case scheduler if search and isinstance(scheduler, Population):
            return search.trials
        case _:
            return 1


def _staying(experiment: Experiment, trials: int) -> tuple[int, int]:
    """Trials whose weights stay: at least, and where all of a front of several goals did at most."""
    search = experiment.search
    first = trials if search is None or search.keep_checkpoints == "all" else min(search.keep_checkpoints, trials)
    return first, trials if search and len(search.goals) > 1 else first


def too_full(disk: Disk | None) -> tuple[str, ...]:
    """A warning where the sweep will likely not find room."""
    if disk is None or disk.checkpoints.likely <= disk.free:
        return ()
    what = f"checkpoints take about {disk.checkpoints.likely:,.0f} MiB at once"
    return (f"output_dir: {what}, {disk.directory} has {disk.free:,.0f} MiB free; free some, or set it elsewhere",)


def _bytes_a_weight(experiment: Experiment, runner: Lane | Isolated, full: bool) -> tuple[int, int]:
    """Of a checkpoint while its trial may go on: weights, moments, and DeepSpeed's weights again with a float32 copy.

    And of its weights alone.
    """
    if isinstance(runner, Lane):
        return 4 + ADAM_BYTES, 4
    sharded = isinstance(experiment.resources.strategy, DeepSpeed)
    weights = 2 if full and sharded and experiment.train.number_type != "float32" else 4
    return weights + ADAM_BYTES + (weights + OWN_COPY_BYTES if sharded else 0), weights
