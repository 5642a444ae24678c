"""Chooses an ordered list of configurations, each of which helps the data sets that those before it serve badly.

The method follows Halfon et al. 2024 (arXiv 2407.18990), who rank a grid that ran on every data set. Here studies need
not share configurations: where one was not run, its regret is estimated from its neighbours in that study.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytune_ft.config.search.portfolio import is_number

NEIGHBOURS = 3
"""How many of the nearest trials the regret of a configuration that was not run is estimated from."""
FAR = 0.5
"""The distance (half of an axis) at which a neighbour weighs as much as the unknown, and nearness becomes 0."""
LEAST_GAIN = 0.01
"""How much a configuration must lower the mean regret to be chosen for that; less is noise."""


@dataclass(frozen=True)
class Axis:
    """The scale of one setting, for distances from 0 to 1.

    Attributes:
        low: The least value; None for a setting whose values are only equal or different.
        high: The greatest value.
        log: Whether the scale is logarithmic.
    """

    low: float | None
    high: float
    log: bool

    @staticmethod
    def over(values: Iterable[Any], linear: bool) -> Axis:
        """Returns the axis for `values`; it is logarithmic if all are above 0 and `linear` is not asked for."""
        numbers = list(values)
        if not all(is_number(value) for value in numbers):
            return Axis(None, 0.0, False)
        return Axis(min(numbers), max(numbers), not linear and min(numbers) > 0)

    def between(self, one: Any, other: Any) -> float:
        """Returns the distance of two values, from 0 to 1."""
        if one == other:
            return 0.0
        if self.low is None:
            return 1.0
        if self.log:
            return abs(math.log(one / other)) / math.log(self.high / self.low)
        return float(abs(one - other)) / (self.high - self.low)


@dataclass(frozen=True)
class TrialRegret:
    """One trial on a data set: its settings, and its regret from 0 (the best) to 1 (the median or worse)."""

    settings: Mapping[str, Any]
    regret: float


@dataclass(frozen=True)
class Choice:
    """One configuration of the chosen list.

    Attributes:
        candidate: The candidate's position in the table.
        covered: Mean over data sets of the least regret of all members so far.
        helped: Position of the data set whose least regret it lowered most; None for a reserve (see `cover`).
    """

    candidate: int
    covered: float
    helped: int | None


def regrets(values: Sequence[float | None]) -> list[float]:
    """Returns the regret of each value: 0 for the least, 1 for the median and above.

    None is the value of a trial that was stopped or failed. Its regret is 1, and for the median it counts as the worst
    value: it was no better.
    """
    known = [value for value in values if value is not None]
    if not known:
        return [1.0] * len(values)
    best, worst = min(known), max(known)
    scale = statistics.median(worst if value is None else value for value in values) - best
    return [_regret(value, best, scale) for value in values]


def _regret(value: float | None, best: float, scale: float) -> float:
    if value is None:
        return 1.0
    if scale <= 0:
        return 0.0 if value <= best else 1.0
    return min((value - best) / scale, 1.0)


def estimate(settings: Mapping[str, Any], points: Sequence[TrialRegret], axes: Mapping[str, Axis]) -> float:
    """Returns the regret of a configuration on a data set: exact where it was run, else estimated from neighbours.

    The estimate is a mean of neighbours, weighted by 1 / distance squared, and of an unknown one of regret 1 at the
    distance `FAR`: far from everything that was run, regret tends to 1. It needs no fitting, works from one trial on,
    and never promises more than was seen.

    Args:
        settings: The configuration.
        points: The trials on the data set.
        axes: The scale of each setting.
    """
    distances = [(math.hypot(*_along(axes, settings, point.settings)), point) for point in points]
    exact = [point.regret for distance, point in distances if distance == 0.0]
    if exact:
        return statistics.mean(exact)
    nearest = sorted(distances, key=lambda each: each[0])[:NEIGHBOURS]
    weighed = [(1 / distance**2, point.regret) for distance, point in nearest] + [(1 / FAR**2, 1.0)]
    return sum(weight * regret for weight, regret in weighed) / sum(weight for weight, _ in weighed)


def _along(axes: Mapping[str, Axis], one: Mapping[str, Any], other: Mapping[str, Any]) -> list[float]:
    return [axis.between(one[key], other[key]) for key, axis in axes.items()]


def nearness(one: Mapping[str, Any], other: Mapping[str, Any], axes: Mapping[str, Axis]) -> float:
    """Returns how near two configurations are: 1 for the same settings, 0 from the distance `FAR` on."""
    return max(0.0, 1.0 - math.hypot(*_along(axes, one, other)) / FAR)


def _unlike(one: int, other: int) -> float:
    return 0.0


def cover(table: Sequence[Sequence[float]], size: int, nearness: Callable[[int, int], float] = _unlike) -> list[Choice]:
    """Chooses candidates greedily by how much they lower the regret of data sets.

    Among equal gains the one with the least regret over all data sets is chosen, then the first one. Once no candidate
    gains `LEAST_GAIN` any more, reserves follow, for data that is like none of these: candidates of little regret, and
    unlike the ones chosen already, because near ones fail together.

    Args:
        table: Regret of each candidate (row) on each data set (column).
        size: How many candidates to choose at most.
        nearness: Returns how near two candidates are, from 0 to 1.
    """
    chosen: list[Choice] = []
    left = [each for each in range(len(table)) if min(table[each]) < 1.0]  # the others are bad everywhere
    datasets = len(table[0]) if table else 0
    least = [1.0] * datasets
    while left and len(chosen) < size:
        best = min(left, key=lambda each: (-round(_gain(table[each], least), 9), sum(table[each]), each))
        reserve = _gain(table[best], least) < LEAST_GAIN * datasets
        if reserve:
            best = min(left, key=lambda each: (_as_reserve(each, table, chosen, nearness), each))
        lowered = [before - now for before, now in zip(least, table[best], strict=True)]
        least = [min(pair) for pair in zip(least, table[best], strict=True)]
        helped = None if reserve else max(range(datasets), key=lambda each: lowered[each])
        chosen.append(Choice(best, statistics.mean(least), helped))
        left.remove(best)
    return chosen


def _as_reserve(
    candidate: int, table: Sequence[Sequence[float]], chosen: Sequence[Choice], nearness: Callable[[int, int], float]
) -> float:
    nearest = max((nearness(candidate, choice.candidate) for choice in chosen), default=0.0)
    return statistics.mean(table[candidate]) + nearest


def _gain(regret: Sequence[float], covered: Sequence[float]) -> float:
    return sum(max(before - now, 0.0) for before, now in zip(covered, regret, strict=True))
