"""The values that a setting may take over the trials of a study."""

from __future__ import annotations

from dataclasses import dataclass

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.possible import possible
from raytune_ft.config.search.search import STEPS

LAID_OUT = 20
"""How many evenly spaced values stand for a searched range."""


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest possible value of a count."""

    least: int
    most: int

    def __mul__(self, other: Bounds) -> Bounds:
        return Bounds(self.least * other.least, self.most * other.most)


def bounds(experiment: Experiment, key: str) -> Bounds:
    """Returns the least and the greatest value of a setting that is a whole number."""
    values = [int(value) for value in possible(experiment, key)]
    return Bounds(min(values), max(values))


def lengths(experiment: Experiment) -> list[int]:
    """Returns the possible lengths of trials in optimizer steps, all equally likely; a range is spaced evenly."""
    own, parameter = experiment.train.max_steps, None
    if experiment.search:
        parameter = experiment.search.space.parameters.get(STEPS)
    if parameter is None:
        return [own]
    count = len(parameter.choice) if parameter.choice else LAID_OUT
    drawn = [int(parameter.at((at + 0.5) / count)) for at in range(count)]
    return drawn + [own] * (count if parameter.when else 0)


def ranks(experiment: Experiment) -> Bounds:
    """Returns the bounds of the adapters' rank; 1 where there are no adapters."""
    values = [int(value) for value in possible(experiment, "method.r") if value is not None]
    return Bounds(min(values, default=1), max(values, default=1))
