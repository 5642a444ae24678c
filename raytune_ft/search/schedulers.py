"""Who stops the weak: Ray Tune's schedulers, told of what an interrupted sweep already saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.schedulers import Asha, NoScheduler
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

    match search.scheduler:
        case NoScheduler():
            return FIFOScheduler()
        case Asha(grace_period=grace_period, reduction_factor=reduction_factor):
            scheduler = AsyncHyperBandScheduler(
                time_attr="step",
                metric=search.metric,
                mode=search.mode,
                grace_period=grace_period,
                reduction_factor=reduction_factor,
                max_t=experiment.train.max_steps + 1,  # at max_t Ray kills a trial that is about to end by itself
            )
            return scheduler


def replay(scheduler: Any, search: Search, run: RunDirectory, finished: list[str]) -> None:
    """Shows `scheduler` the curves of trials that an earlier driver finished, so that rungs keep their records."""
    if isinstance(search.scheduler, NoScheduler):
        return
    for name in finished:
        past = _Past(name)
        scheduler.on_trial_add(None, past)
        for report in read_metrics(run.trial(name).metrics):
            if not report.get("checkpoint"):  # a diverged trial's last line, which Tune never saw
                break
            if scheduler.on_trial_result(None, past, report) == scheduler.STOP:
                break
