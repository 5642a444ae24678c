"""Plans a sweep, before anything of it is started."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.number_type import NumberType
from raytune_ft.config.possible import possible
from raytune_ft.config.search.search import STEPS
from raytune_ft.config.training import Isolated, Lane
from raytune_ft.data.base_model import model_config
from raytune_ft.execution.devices import threads_of
from raytune_ft.execution.runner import choose_runner
from raytune_ft.hardware.device import Device, common_type
from raytune_ft.hardware.here import cpu_here, gpus_here
from raytune_ft.search.planning.bounds import Bounds, bounds
from raytune_ft.search.planning.forecast import device_hours, expected_paces, hours
from raytune_ft.search.planning.groups import Groups, fitting_here, groups_at_once, packs_of, workers_on_one
from raytune_ft.search.planning.memory.activations import Shape
from raytune_ft.search.planning.memory.disk import Disk, disk_of, too_full
from raytune_ft.search.planning.memory.peak import DeviceMemory, Peak, memory_here, peak_memory, too_large
from raytune_ft.search.planning.memory.weights import WorkerMemory, worker_memory
from raytune_ft.search.planning.prices import devices_of_group
from raytune_ft.search.planning.row_lengths import row_lengths
from raytune_ft.search.planning.rungs import RungPlan, plain_halving_steps, plan_rungs, sweep_steps
from raytune_ft.search.planning.span import Span
from raytune_ft.search.planning.speed import Speed, expected_speed
from raytune_ft.search.planning.work import Work, narrowed, work_of

SECONDS_PER_ISOLATED_START = 36.0
"""Seconds that a trial takes longer with workers of its own; from benchmarks/lanes.py, sweep."""
DECAYING = ("linear", "cosine")
"""Schedules whose learning rate at a rung depends on the trial's last step."""
MEASURED_ON = "2 CPU cores without a GPU, SmolLM2-135M"


@dataclass(frozen=True)
class Plan:
    """The plan of a sweep.

    Attributes:
        experiment: The experiment's name.
        runner: `lane` or `isolated`.
        runner_reason: Why this runner was chosen.
        trials: Number of trials in the study; 1 without `search`.
        max_concurrent: How many of them train at once.
        rungs: The steps at which trials may be stopped, and the last.
        steps: Optimizer steps of the whole sweep.
        halving_steps: The same if just one trial in `reduction_factor` goes on from each rung; None where
            `train.max_steps` is searched.
        samples: Training rows of the whole sweep, with repeats.
        tokens_per_row: Mean over the training rows; None where the base model's tokenizer is not on this machine.
        tokens_counted: Whether all rows, prepared by an earlier run, were counted, and not a sample.
        worker_groups: How many worker groups are started.
        isolated_worker_groups: How many isolated trials would start.
        saved_seconds: About how many seconds starting fewer groups saves.
        saving_measured_on: The machine on which the seconds per start were measured.
        memory: What one worker holds; None where the base model's weights are not on this machine.
        work: Steps, reports and tokens, in likely ranges.
        groups: How many worker groups train at the same time.
        fitting: How many worker groups fit; None where this machine can't tell.
        peak: The peak memory of a worker, MiB; None where a part of it is unknown.
        room: The memory of this machine's device; None where it has no such device.
        disk: What the checkpoints take on disk; None where the number of trained weights is unknown.
        dtype: The number type that the sweep would compute in, as far as this machine can tell.
        measured_gflops: A worker's matrix products in this type, measured here in GFLOP/s; None for a GPU.
        speed: The speed from which hours are computed; None for an unknown GPU.
        hours: How long the sweep takes.
        device_hours: Hours times the GPUs that worker groups hold, or their CPUs without any.
        cost: What the device hours cost by `search.budget.prices`.
        budget: The budget's limits that would close the study before all of its trials ran, in words.
        warnings: Warnings about settings that will run but mislead, in words.
    """

    experiment: str
    runner: str
    runner_reason: str
    trials: int
    max_concurrent: int
    rungs: tuple[RungPlan, ...]
    steps: Bounds
    halving_steps: int | None
    samples: Bounds
    tokens_per_row: float | None
    tokens_counted: bool
    worker_groups: int
    isolated_worker_groups: int
    saved_seconds: float
    saving_measured_on: str
    memory: WorkerMemory | None
    work: Work
    groups: int
    fitting: int | None
    peak: Peak | None
    room: DeviceMemory | None
    disk: Disk | None
    dtype: NumberType
    measured_gflops: float | None
    speed: Speed | None
    hours: Span | None
    device_hours: Span | None
    cost: Span | None
    budget: tuple[str, ...]
    warnings: tuple[str, ...]


def plan_here(experiment: Experiment) -> Plan:
    """Plans a sweep whose workers have devices like this machine's; measures these, which takes half a second.

    Raises:
        InputError: See `plan_sweep`.
    """
    on_gpu = bool(experiment.resources.gpus_per_worker)
    gpus = gpus_here() if on_gpu else []
    device = next(iter(gpus), None) if on_gpu else cpu_here(threads_of(experiment))
    if experiment.train.dtype == "auto":
        experiment = experiment.computing_in(common_type([device]) if device else "bfloat16")
    return plan_sweep(experiment, device, fitting_here(experiment.resources, len(gpus)))


def plan_sweep(experiment: Experiment, device: Device | None, fitting: int | None = None) -> Plan:
    """Plans the experiment's sweep; without `search`, its one trial.

    Args:
        experiment: An experiment whose number type is decided.
        device: A worker's device; None where none is known.
        fitting: How many worker groups fit; None for what this machine's CPUs hold, if that can be told.

    Raises:
        InputError: The experiment asks for a lane that can't serve, or a file of the base model or data is wrong.
    """
    choice = choose_runner(experiment)
    fitting = fitting or fitting_here(experiment.resources, 0)
    search = experiment.search
    trials, at_once = (search.trials, min(search.max_concurrent, search.trials)) if search else (1, 1)
    last = bounds(experiment, STEPS)
    rungs = plan_rungs(experiment, trials)
    steps = sweep_steps(experiment, trials)
    groups, saved = trials, 0.0
    at_a_time = groups_at_once(choice.runner, at_once, fitting)
    if isinstance(choice.runner, Lane):
        groups = choice.runner.lanes or at_a_time
        saved = (math.ceil(trials / min(at_once, fitting or at_once)) - 1) * SECONDS_PER_ISOLATED_START
    rows, halving_steps = row_lengths(experiment), plain_halving_steps(rungs) if last.least == last.most else None
    shape, memory = Shape.of(model_config(experiment.base_model)), worker_memory(experiment, choice.runner)
    work = work_of(experiment, steps, halving_steps, rows)
    expected = narrowed(experiment, work)
    on_gpu = bool(experiment.resources.gpus_per_worker)
    room = memory_here(on_gpu)
    pass_tokens = rows.of_row * bounds(experiment, "train.per_device_train_batch_size").least if rows else 1.0

    def speed_of(packed: int) -> Speed | None:
        return expected_speed(experiment, choice.runner, shape, device, packed * pass_tokens) if shape else None

    sharing = Groups(
        at_a_time,
        room.total if room else None,
        workers_on_one(experiment.resources, at_a_time),
        on_gpu,
        lambda packed: speed.train_s if (speed := speed_of(packed)) else None,
    )
    peak = peak_memory(experiment, choice.runner, memory, rows, work, sharing)
    packed = packs_of(experiment, choice.runner, rows, at_a_time).likely(sharing.token_s) if rows else 1
    speed = speed_of(peak.packed if peak else packed)
    start_s = SECONDS_PER_ISOLATED_START if isinstance(choice.runner, Isolated) else None
    whole = hours(expected, expected_paces(speed, at_a_time, start_s)) if speed else None
    disk = disk_of(experiment, choice.runner, memory, work, at_once)
    held = device_hours(whole, at_a_time, devices_of_group(experiment.resources)) if whole else None
    return Plan(
        experiment=experiment.name,
        runner=choice.runner.type,
        runner_reason=choice.reason,
        trials=trials,
        max_concurrent=at_once,
        rungs=rungs,
        steps=steps,
        halving_steps=halving_steps,
        samples=steps * _samples_per_step(experiment),
        tokens_per_row=round(rows.of_row, 1) if rows else None,
        tokens_counted=bool(rows and rows.exact),
        worker_groups=groups,
        isolated_worker_groups=trials,
        saved_seconds=saved,
        saving_measured_on=MEASURED_ON,
        memory=memory,
        work=expected,
        groups=at_a_time,
        fitting=fitting,
        peak=peak,
        room=room,
        disk=disk,
        dtype=experiment.train.number_type,
        measured_gflops=round(device.gflops[experiment.train.number_type], 1) if device and device.gflops else None,
        speed=speed,
        hours=whole,
        device_hours=held,
        cost=cost_of(experiment, held) if held else None,
        budget=_closing(experiment, expected.tokens, whole, held),
        warnings=(*_warnings(experiment), *too_large(experiment, peak, room), *too_full(disk)),
    )


def cost_of(experiment: Experiment, held: Span) -> Span | None:
    """Returns the cost of device hours, from the cheapest fitting price to the dearest, as the device is not known."""
    prices = experiment.search.budget.prices if experiment.search else {}
    on_gpu = bool(experiment.resources.gpus_per_worker)
    fitting = [price for device, price in prices.items() if (device != "cpu") is on_gpu]
    return held * Span(min(fitting), sum(fitting) / len(fitting), max(fitting)) if fitting else None


def _closing(experiment: Experiment, tokens: Span | None, whole: Span | None, held: Span | None) -> tuple[str, ...]:
    """Returns, in words, the limits of the budget that the plan reaches, likely or at most."""
    if experiment.search is None:
        return ()
    budget, trials = experiment.search.budget, experiment.search.trials
    limits = (
        ("tokens", budget.tokens, tokens),
        ("hours", budget.hours, whole),
        ("device_hours", budget.device_hours, held),
        ("cost", budget.cost, cost_of(experiment, held) if held else None),
    )
    found = []
    for name, limit, span in limits:
        if limit is not None and span is not None and span.high > limit:
            how = "will likely" if span.likely > limit else "may"
            found.append(f"{name} {limit:,g} {how} close the study before it has its {trials} trials")
    return tuple(found)


def _warnings(experiment: Experiment) -> tuple[str, ...]:
    decaying = [name for name in possible(experiment, "train.lr_scheduler_type") if name in DECAYING]
    if not experiment.rungs() or not decaying:
        return ()
    decay = "decays" if len(decaying) == 1 else "decay"
    what = f"{decay} to the last step, and trials are compared before it, when those with a high rate still look worse"
    remedy = "use constant_with_warmup or warmup_stable_decay"
    return (f"train.lr_scheduler_type: {' and '.join(decaying)} {what} than they end; {remedy}",)


def _samples_per_step(experiment: Experiment) -> Bounds:
    rows = bounds(experiment, "train.per_device_train_batch_size")
    return rows * bounds(experiment, "train.gradient_accumulation_steps") * bounds(experiment, "resources.workers")
