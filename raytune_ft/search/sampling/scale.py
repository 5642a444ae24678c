"""Rescales the costs of one study to another's: a large difference on one data set is a small one on another."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

ENOUGH = 4
"""How many trials a study needs for its spread of costs to be known."""

Costs = tuple[float, ...]
"""The costs of one trial, one for each goal; less is better."""


def lay(costs: Sequence[Costs], onto: Sequence[Costs]) -> list[Costs]:
    """Returns the `costs` of one study on the scale of `onto`, so that both have the same best and the same median.

    While `onto` has fewer than `ENOUGH` trials, only the best ones are matched, and the study's own distances stand;
    where it has none, best and median become 0 and 1, so that several studies are on one scale.
    """
    if not costs:
        return []
    columns = [_lay(column, [each[goal] for each in onto]) for goal, column in enumerate(zip(*costs, strict=True))]
    return list(zip(*columns, strict=True))


def _lay(costs: Sequence[float], onto: Sequence[float]) -> list[float]:
    best, unit = min(costs), _spread(costs) or 1.0
    if not onto:
        return [(cost - best) / unit for cost in costs]
    ratio = _spread(onto) / unit if len(onto) >= ENOUGH else 1.0
    return [min(onto) + (cost - best) * ratio for cost in costs]


def _spread(costs: Sequence[float]) -> float:
    return median(costs) - min(costs)
