"""Computes the steps at which a scheduler decides on trials (rungs), for workers, schedulers and `plan` alike."""

from __future__ import annotations

from dataclasses import dataclass

from raytune_ft.config.search.schedulers import Asha, Bohb, Hyperband, Median, Pb2, Pbt, Scheduler


@dataclass(frozen=True)
class Bracket:
    """Trials that Hyperband compares with one another.

    Attributes:
        trials: Number of trials that it takes.
        rungs: Steps at which its trials wait for one another, ascending; the last is the trials' last step.
        factor: One in this many trials goes on from each rung.
    """

    trials: int
    rungs: tuple[int, ...]
    factor: int

    def survivors(self, trials: int) -> tuple[int, ...]:
        """Returns how many of `trials` trials (at most its own number) train to each rung."""
        places, reached = self.trials, [trials]
        for _ in self.rungs[1:]:
            places = -(-places // self.factor)
            reached.append(min(places, reached[-1]))
        return tuple(reached)


def brackets(scheduler: Hyperband | Bohb, last: int) -> tuple[Bracket, ...]:
    """Returns Hyperband's brackets for trials of `last` steps, the one with the most trials first; they repeat in turn.

    This is algorithm 1 of Li et al. 2018 (arXiv 1603.06560); the rungs are the last step divided by powers of the
    factor.
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
    """Returns the rungs of a trial of `last` steps, ascending."""
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
