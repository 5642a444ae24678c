"""Makes the scheduler that stops weak trials: Ray Tune's, or our own where Ray's could not resume a sweep."""

from __future__ import annotations

from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.rungs import brackets
from raytune_ft.config.search.schedulers import Asha, Bohb, Hyperband, Median, NoScheduler, Pb2, Pbt
from raytune_ft.config.search.search import Search


def make_scheduler(experiment: Experiment, search: Search) -> Any:
    """Returns the scheduler for the experiment, as Ray Tune takes it; time is counted in optimizer steps."""
    from ray.tune.schedulers import FIFOScheduler

    goal, last = search.goals[0], experiment.train.max_steps
    match search.scheduler:
        case NoScheduler():
            return FIFOScheduler()
        case Asha(reduction_factor=reduction_factor):
            from raytune_ft.search.scheduling.asha import Asha as Halving

            return Halving(goal.name, goal.mode, experiment.study_rungs(), reduction_factor, last)
        case Hyperband() | Bohb():
            from raytune_ft.search.scheduling.hyperband import PausingHyperband

            return PausingHyperband(brackets(search.scheduler, last), goal.name, goal.mode)
        case Median(grace_period=grace_period, min_samples_required=samples):
            from raytune_ft.search.scheduling.median import Median as Rule

            return Rule(goal.name, goal.mode, grace_period, samples, last)
        case Pbt() | Pb2():
            from raytune_ft.search.scheduling.population import make_population

            return make_population(search.scheduler, experiment, search)
