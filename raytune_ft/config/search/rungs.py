"""At which steps a scheduler looks at trials; all that asks for it (workers, schedulers, plan) reads it here."""

from __future__ import annotations

from dataclasses import dataclass

from raytune_ft.config.search.schedulers import Asha, Bohb, Hyperband, Median, Pb2, Pbt, Scheduler


@dataclass(frozen=True)
class Bracket:
    """Trials that Hyperband compares with one another.

    Attributes:
        trials: That it takes.
        rungs: Steps at which they wait for one another, ascending; the last is the last step.
        factor: One in this many goes on from each rung.
    """

    trials: int
    rungs: tuple[int, ...]
    factor: int

    def survivors(self, trials: int) -> tuple[int, ...]:
        """How many of `trials`, at most its own, train to each rung."""
        places, reached = self.trials, [trials]
        for _ in self.rungs[1:]:
            places = -(-places // self.factor)
            reached.append(min(places, reached[-1]))
        return tuple(reached)


def brackets(scheduler: Hyperband | Bohb, last: int) -> tuple[Bracket, ...]:
    """Hyperband's brackets for trials of `last` steps, the one with most trials first; after the last they begin anew.

    Li et al. 2018 (arXiv 1603.06560), algorithm 1, with rungs that are the last step divided by powers of the factor.
    """
    factor, most = scheduler.reduction_factor, 0
    while last // factor ** (most + 1) >= scheduler.grace_period:
        most += 1
    return tuple(
        Bracket(
            trials=-(-(most + 1) * factor**halvings // (halvings + 1)),
            rungs=tuple(last // factor**left for left in range(halvings, -1, -1)),
            factor=factor,
        )
        for halvings in range(most, -1, -1)
    )


def rungs(scheduler: Scheduler, last: int, eval_steps: int | None) -> tuple[int, ...]:
    """Steps at which the scheduler looks at a trial that has `last` of them, ascending."""
    match scheduler:
        case Asha(grace_period=step, reduction_factor=factor):
            steps = [step]
            while steps[-1] * factor < last:
                steps.append(steps[-1] * factor)
            return tuple(steps)
        case Hyperband() | Bohb():
            return brackets(scheduler, last)[0].rungs[:-1]
        case Median(grace_period=grace):
            every = eval_steps or grace
            return tuple(step for step in range(every, last, every) if step >= grace)
        case Pbt(perturbation_interval=interval) | Pb2(perturbation_interval=interval):
            return tuple(range(interval, last, interval))
        case _:
            return ()
