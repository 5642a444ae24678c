"""What a sweep would do, before anything of it is started."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.schedulers import Asha
from raytune_ft.config.training import Lane
from raytune_ft.data.base_model import local_files
from raytune_ft.data.fingerprint import data_fingerprint
from raytune_ft.data.prepared import MANIFEST
from raytune_ft.execution.runner import choose_runner
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.search.bounds import Bounds, bounds, choices
from raytune_ft.search.memory import WorkerMemory, worker_memory

SECONDS_PER_ISOLATED_START = 38.0
"""What each trial takes longer with workers of its own; benchmarks/lanes.py, sweep."""
DECAYING = ("linear", "cosine")
"""Schedules whose rate at a rung depends on how long the trial would go on."""
MEASURED_ON = "2 CPU cores without a GPU, SmolLM2-135M"


@dataclass(frozen=True)
class RungPlan:
    """How many trials train to a step.

    Attributes:
        step: A rung, or the last step.
        trials: At least and at most; asynchronous halving lets the first on, and everyone who is better than before.
        halving: Where just one in `reduction_factor` goes on from each rung.
    """

    step: int
    trials: Bounds
    halving: int


@dataclass(frozen=True)
class Plan:
    """What a sweep would do.

    Attributes:
        experiment: Its name.
        runner: `lane` or `isolated`.
        runner_reason: Why.
        trials: In the study; 1 without `search`.
        max_concurrent: Of them at once.
        rungs: The steps at which trials may be stopped, and the last.
        steps: Optimizer steps of the whole sweep.
        halving_steps: The same where just one in `reduction_factor` goes on from each rung; None where
            `train.max_steps` is searched.
        samples: Training rows of the whole sweep, repeats counted.
        tokens_per_row: Mean over the tokenised training rows; None where an earlier run has not made them.
        worker_groups: That are started.
        isolated_worker_groups: That isolated trials would start.
        saved_seconds: About what starting fewer saves of the sweep's time.
        saving_measured_on: The machine whose seconds per start that counts with.
        memory: Of one worker; None where the base's weights are not on this machine.
        warnings: What will run, and mislead.
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
    worker_groups: int
    isolated_worker_groups: int
    saved_seconds: float
    saving_measured_on: str
    memory: WorkerMemory | None
    warnings: tuple[str, ...]


def plan_sweep(experiment: Experiment) -> Plan:
    """Works out what the experiment's sweep would do; without `search`, its one trial.

    Raises:
        InputError: It asks for a lane that can't serve, or a file of the base or of the data is wrong.
    """
    choice = choose_runner(experiment)
    search = experiment.search
    trials, at_once = (search.trials, min(search.max_concurrent, search.trials)) if search else (1, 1)
    last = bounds(experiment, "train.max_steps")
    rungs = _rungs(experiment, trials)
    grace = experiment.rungs()[:1] or (last.least,)
    steps = Bounds(last.least + (trials - 1) * grace[0], trials * last.most)
    groups, saved = trials, 0.0
    if isinstance(choice.runner, Lane):
        groups = choice.runner.lanes or at_once
        saved = (math.ceil(trials / at_once) - 1) * SECONDS_PER_ISOLATED_START
    return Plan(
        experiment=experiment.name,
        runner=choice.runner.type,
        runner_reason=choice.reason,
        trials=trials,
        max_concurrent=at_once,
        rungs=rungs,
        steps=steps,
        halving_steps=_halving_steps(rungs) if last.least == last.most else None,
        samples=steps * _samples_per_step(experiment),
        tokens_per_row=_tokens_per_row(experiment),
        worker_groups=groups,
        isolated_worker_groups=trials,
        saved_seconds=saved,
        saving_measured_on=MEASURED_ON,
        memory=worker_memory(experiment, choice.runner),
        warnings=_warnings(experiment),
    )


def _warnings(experiment: Experiment) -> tuple[str, ...]:
    decaying = [name for name in choices(experiment, "train.lr_scheduler_type") if name in DECAYING]
    if not experiment.rungs() or not decaying:
        return ()
    decay = "decays" if len(decaying) == 1 else "decay"
    what = f"{decay} to the last step, and trials are compared before it, when those with a high rate still look worse"
    remedy = "use constant_with_warmup or warmup_stable_decay"
    return (f"train.lr_scheduler_type: {' and '.join(decaying)} {what} than they end; {remedy}",)


def _rungs(experiment: Experiment, trials: int) -> tuple[RungPlan, ...]:
    scheduler = experiment.search.scheduler if experiment.search else None
    factor = scheduler.reduction_factor if isinstance(scheduler, Asha) else 1
    steps = (*experiment.rungs(), experiment.train.max_steps)
    return tuple(
        RungPlan(step, Bounds(1 if passed else trials, trials), math.ceil(trials / factor**passed))
        for passed, step in enumerate(steps)
    )


def _halving_steps(rungs: tuple[RungPlan, ...]) -> int:
    begins = (0, *(rung.step for rung in rungs))
    return sum((rung.step - begin) * rung.halving for begin, rung in zip(begins, rungs, strict=False))


def _samples_per_step(experiment: Experiment) -> Bounds:
    rows = bounds(experiment, "train.per_device_train_batch_size")
    return rows * bounds(experiment, "train.gradient_accumulation_steps") * bounds(experiment, "resources.workers")


def _tokens_per_row(experiment: Experiment) -> float | None:
    """Out of the manifest that an earlier run of the same data left."""
    path = RunDirectory(Path(experiment.output_dir) / experiment.name).data / MANIFEST
    if not path.is_file():
        return None
    manifest = read_json(path)
    if manifest["fingerprint"] != data_fingerprint(experiment, local_files(experiment.base_model)):
        return None
    train: dict[str, int] = manifest["splits"]["train"]
    return round(train["tokens"] / train["rows"], 1)
