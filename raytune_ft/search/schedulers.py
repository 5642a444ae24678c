"""Who stops the weak: Ray Tune's schedulers, told of what an interrupted sweep already saw."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.rungs import brackets
from raytune_ft.config.schedulers import Asha, Bohb, Hyperband, Median, NoScheduler, Pb2, Pbt
from raytune_ft.config.search import Search
from raytune_ft.paths import RunDirectory
from raytune_ft.training.metrics_log import read_metrics


@dataclass(frozen=True)
class _Past:
    """What a scheduler looks at in a trial: its id."""

    trial_id: str


def make_scheduler(experiment: Experiment, search: Search) -> Any:
    """Ray Tune's scheduler for the experiment; time is counted in optimizer steps."""
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

    goal, last = search.goals[0], experiment.train.max_steps
    match search.scheduler:
        case NoScheduler():
            return FIFOScheduler()
        case Asha(grace_period=grace_period, reduction_factor=reduction_factor):
            return AsyncHyperBandScheduler(
                time_attr="step",
                metric=goal.name,
                mode=goal.mode,
                grace_period=grace_period,
                reduction_factor=reduction_factor,
                max_t=last + 1,  # at max_t Ray kills a trial that is about to end by itself
            )
        case Hyperband() | Bohb():
            from raytune_ft.search.hyperband import PausingHyperband

            return PausingHyperband(brackets(search.scheduler, last), goal.name, goal.mode)
        case Median(grace_period=grace_period, min_samples_required=samples):
            from raytune_ft.search.median import Median as Rule

            return Rule(goal.name, goal.mode, grace_period, samples, last)
        case Pbt() | Pb2():
            from raytune_ft.search.population import make_population

            return make_population(search.scheduler, experiment, search)


def replay(scheduler: Any, search: Search, run: RunDirectory, finished: list[str]) -> None:
    """Shows `scheduler` the curves of trials that an earlier driver finished, so that it compares with them.

    Hyperband's brackets and a population are made of the trials that are left.
    """
    if not isinstance(search.scheduler, Asha | Median):
        return
    for name in finished:
        past = _Past(name)
        seen = takewhile(_seen, read_metrics(run.trial(name).metrics))
        if isinstance(search.scheduler, Median):
            scheduler.remember(past, list(seen))
            continue
        scheduler.on_trial_add(None, past)
        for report in seen:
            if scheduler.on_trial_result(None, past, report) == scheduler.STOP:
                break


def _seen(report: dict[str, Any]) -> bool:
    """A diverged trial's last line has no checkpoint, and Tune never saw it."""
    return bool(report.get("checkpoint"))
