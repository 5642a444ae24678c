"""Costs of one study beside another's: what is much on one data set is little on another."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

ENOUGH = 4
"""Trials whose costs tell how far apart a study's costs lie."""

Costs = tuple[float, ...]
"""One trial's, by goal; less is better."""


def lay(costs: Sequence[Costs], onto: Sequence[Costs]) -> list[Costs]:
    """`costs` of one study on the scale of `onto`: its best on the best, its median as far above as theirs is.

    While `onto` has too few trials to tell how far that is, the study's own distances stand; where it has none, best
    and median become 0 and 1, so that several studies lie on one scale.
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
