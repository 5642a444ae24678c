"""The values of a grid."""

from __future__ import annotations

import math
from typing import Any

from raytune_ft.config.search import Parameter, SearchSpace

MOST = 10_000
"""Combinations that are listed; who has more wants another algorithm."""


def axis(parameter: Parameter, points: int) -> list[Any]:
    """The values of a dimension on the grid: a choice's own, or `points` of a range with both ends."""
    if parameter.choice is not None:
        return list(parameter.choice)
    low, high = parameter.extremes()
    if low == high:
        return [low]
    steps = [0.5] if points == 1 else [i / (points - 1) for i in range(points)]
    if parameter.loguniform:
        ratio = math.log(high / low)
        return [min(max(low * math.exp(ratio * step), low), high) for step in steps]
    values = [low + (high - low) * step for step in steps]
    return list(dict.fromkeys(round(value) for value in values)) if parameter.randint else values


def combinations(space: SearchSpace, points: int) -> int:
    """How many there are, conditions aside."""
    return math.prod(len(axis(parameter, points)) for parameter in space.parameters.values())
