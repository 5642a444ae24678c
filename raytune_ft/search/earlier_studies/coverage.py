"""Coverage-based choice: an ordered list whose each next member helps the data sets that the ones before serve badly.

After Halfon et al. 2024 (arXiv 2407.18990), who rank a grid that ran on every data set. Here studies need not share
configurations: where one was not run, its neighbours in that study speak for it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytune_ft.config.search.portfolio import is_number

NEIGHBOURS = 3
"""Trials that speak for a configuration that was not run."""
FAR = 0.5
"""At this distance, half of an axis, the unknown weighs as much as a neighbour does, and two settings are unlike."""
LEAST_GAIN = 0.01
"""Mean regret that a configuration must take away to be chosen for it; less is noise."""


@dataclass(frozen=True)
class Axis:
    """One setting as a line from 0 to 1; `low` is None where values are only equal or different."""

    low: float | None
    high: float
    log: bool

    @staticmethod
    def over(values: Iterable[Any], linear: bool) -> Axis:
        """The axis on which `values` lie: by ratio where all are above 0 and nobody asks for `linear`."""
        numbers = list(values)
        if not all(is_number(value) for value in numbers):
            return Axis(None, 0.0, False)
        return Axis(min(numbers), max(numbers), not linear and min(numbers) > 0)

    def between(self, one: Any, other: Any) -> float:
        """Distance of two values, from 0 to 1."""
        if one == other:
            return 0.0
        if self.low is None:
            return 1.0
        if self.log:
            return abs(math.log(one / other)) / math.log(self.high / self.low)
        return float(abs(one - other)) / (self.high - self.low)


@dataclass(frozen=True)
class TrialRegret:
    """One trial on a data set: its settings, and what it left to be desired."""

    settings: Mapping[str, Any]
    regret: float


@dataclass(frozen=True)
class Choice:
    """One member of the cover.

    Attributes:
        candidate: The candidate's position in the table.
        covered: Mean over data sets of the least regret of all members so far.
        helped: Position of the data set whose least regret it lowered most; None for one in reserve.
    """

    candidate: int
    covered: float
    helped: int | None


def regrets(values: Sequence[float | None]) -> list[float]:
    """0 for the least value, 1 for the median and all above it, and for None, a trial without a full-length value.

    In the median a trial that was stopped or failed stands at the worst value: it was no better.
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
    """The regret of a configuration on a data set: exact where it was run, else its neighbours' mean.

    Neighbours weigh by their squared nearness, and so does the unknown: far from everything that was run, regret is
    1. It needs no fitting, holds from one trial on, and never promises more than was seen.
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
    """1 for the same settings, 0 from the distance `FAR` on."""
    return max(0.0, 1.0 - math.hypot(*_along(axes, one, other)) / FAR)


def _unlike(one: int, other: int) -> float:
    return 0.0


def cover(table: Sequence[Sequence[float]], size: int, nearness: Callable[[int, int], float] = _unlike) -> list[Choice]:
    """Chooses greedily; equal gains go to the less regret over all data sets, then to the first.

    Once no candidate takes away `LEAST_GAIN` any more, reserves follow, for data that is like none of these: of little
    regret, and unlike what is chosen already, because near ones fail together.

    Args:
        table: Regret of each candidate on each data set.
        size: Members at most.
        nearness: How near two candidates are, from 0 to 1.
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
