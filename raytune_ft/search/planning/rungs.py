"""Works out how many trials a scheduler lets train to each rung."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.rungs import brackets
from raytune_ft.config.search.schedulers import Asha, Bohb, Hyperband, Median
from raytune_ft.config.search.search import STEPS
from raytune_ft.search.planning.bounds import Bounds, bounds


@dataclass(frozen=True)
class RungPlan:
    """How many trials train to a step.

    Attributes:
        step: A rung, or the last step.
        trials: The least and the most that may reach it. Asynchronous halving lets the first trial at a rung go on, and
            each that is good enough among those before it.
        halving: How many reach it if just one in `reduction_factor` goes on from each rung; all, without halving.
    """

    step: int
    trials: Bounds
    halving: int


def plan_rungs(experiment: Experiment, trials: int) -> tuple[RungPlan, ...]:
    """Returns one `RungPlan` for each rung of the scheduler, and one for the last step of the longest trial.

    Where `train.max_steps` is searched, all trials may be too short to reach a rung.
    """
    scheduler = experiment.search.scheduler if experiment.search else None
    shortest, steps = bounds(experiment, STEPS).least, (*experiment.study_rungs(), experiment.longest)
    if isinstance(scheduler, Hyperband | Bohb):  # whose trials all have the same length
        reach = _reached(scheduler, trials, experiment.longest)
        return tuple(RungPlan(step, Bounds(reach[step], reach[step]), reach[step]) for step in steps)
    spared, plans = _spared(experiment, trials), []
    for passed, step in enumerate(steps):
        least = spared if passed else trials
        halving = trials
        if isinstance(scheduler, Asha) and step <= shortest:
            halving = math.ceil(trials / scheduler.reduction_factor**passed)
        plans.append(RungPlan(step, Bounds(least if step <= shortest else 0, trials), halving))
    return tuple(plans)


def sweep_steps(experiment: Experiment, trials: int) -> Bounds:
    """Returns the least and the most optimizer steps of the whole sweep."""
    last, rungs = bounds(experiment, STEPS), plan_rungs(experiment, trials)
    if last.least == last.most:
        least, most = [rung.trials.least for rung in rungs], [rung.trials.most for rung in rungs]
        return Bounds(_steps(rungs, least), _steps(rungs, most))
    end = _spared(experiment, trials)  # this many train to their last steps, the others to the first rung
    first = min(rungs[0].step, last.least)
    return Bounds(end * last.least + (trials - end) * first, trials * last.most)


def _spared(experiment: Experiment, trials: int) -> int:
    """Returns how many trials are never stopped, whatever their losses, under schedulers that pause none."""
    match experiment.search.scheduler if experiment.search else None:
        case Asha():
            return 1
        case Median(min_samples_required=samples):
            return min(samples, trials)  # none is stopped before that many others have come as far
        case _:
            return trials


def plain_halving_steps(rungs: tuple[RungPlan, ...]) -> int:
    """Returns the steps of the whole sweep if just one trial in `reduction_factor` goes on from each rung."""
    return _steps(rungs, [rung.halving for rung in rungs])


def _steps(rungs: tuple[RungPlan, ...], trials: list[int]) -> int:
    begins = (0, *(rung.step for rung in rungs))
    return sum((rung.step - begin) * count for rung, begin, count in zip(rungs, begins, trials, strict=False))


def _reached(scheduler: Hyperband | Bohb, trials: int, last: int) -> Counter[int]:
    """Returns step -> how many trials reach it; brackets are filled in turn, and the last one may stay short."""
    cycle = brackets(scheduler, last)
    reached: Counter[int] = Counter()
    for bracket in itertools.cycle(cycle):
        begun = min(bracket.trials, trials)
        survivors = bracket.survivors(begun)
        for step in cycle[0].rungs:
            reached[step] += survivors[bisect_left(bracket.rungs, step)]
        trials -= begun
        if not trials:
            break
    return reached
