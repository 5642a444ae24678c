"""How many trials a scheduler lets train to each of its steps."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.rungs import brackets
from raytune_ft.config.schedulers import Asha, Bohb, Hyperband, Median
from raytune_ft.search.planning.bounds import Bounds, bounds


@dataclass(frozen=True)
class RungPlan:
    """How many trials train to a step.

    Attributes:
        step: A rung, or the last step.
        trials: At least and at most; asynchronous halving lets the first on, and everyone who is better than before.
        halving: Where just one in `reduction_factor` goes on from each rung; all, where nobody halves.
    """

    step: int
    trials: Bounds
    halving: int


def plan_rungs(experiment: Experiment, trials: int) -> tuple[RungPlan, ...]:
    """One for each step at which the scheduler looks, and the last."""
    scheduler = experiment.search.scheduler if experiment.search else None
    steps = (*experiment.rungs(), experiment.train.max_steps)
    match scheduler:
        case Asha(reduction_factor=factor):
            return tuple(
                RungPlan(step, Bounds(1 if passed else trials, trials), math.ceil(trials / factor**passed))
                for passed, step in enumerate(steps)
            )
        case Hyperband() | Bohb():
            reach = _reached(scheduler, trials, experiment.train.max_steps)
            return tuple(RungPlan(step, Bounds(reach[step], reach[step]), reach[step]) for step in steps)
        case Median(min_samples_required=samples):
            least = min(samples, trials)  # nobody is stopped before that many others have come as far
            return tuple(
                RungPlan(step, Bounds(least if passed else trials, trials), trials) for passed, step in enumerate(steps)
            )
        case _:
            return tuple(RungPlan(step, Bounds(trials, trials), trials) for step in steps)


def sweep_steps(experiment: Experiment, trials: int) -> Bounds:
    """Optimizer steps of the whole sweep."""
    last, rungs = bounds(experiment, "train.max_steps"), plan_rungs(experiment, trials)
    if last.least == last.most:
        least, most = [rung.trials.least for rung in rungs], [rung.trials.most for rung in rungs]
        return Bounds(_steps(rungs, least), _steps(rungs, most))
    end = rungs[-1].trials.least  # that many train to their own ends, and the others to the first rung
    first = min(rungs[0].step, last.least)
    return Bounds(end * last.least + (trials - end) * first, trials * last.most)


def plain_halving_steps(rungs: tuple[RungPlan, ...]) -> int:
    """Of the whole sweep, where just one in `reduction_factor` goes on from each rung."""
    return _steps(rungs, [rung.halving for rung in rungs])


def _steps(rungs: tuple[RungPlan, ...], trials: list[int]) -> int:
    begins = (0, *(rung.step for rung in rungs))
    return sum((rung.step - begin) * count for rung, begin, count in zip(rungs, begins, trials, strict=False))


def _reached(scheduler: Hyperband | Bohb, trials: int, last: int) -> Counter[int]:
    """Step -> how many train to it; brackets are filled in turn, and the last one may stay short."""
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
