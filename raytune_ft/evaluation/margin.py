"""Computes how small a loss of quality a number of rows can rule out (non-inferiority margins)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from raytune_ft.evaluation.interval import mean_interval, told_apart
from raytune_ft.evaluation.matched_pairs import least_difference
from raytune_ft.evaluation.metrics import RowDifferences, row_differences
from raytune_ft.metrics.named import is_share, less_is_better

if TYPE_CHECKING:
    from raytune_ft.objectives.scoring.scores import Scores

EQUAL_PASSES = 0.84
"""Power: how often, at least, an equally good system is shown to be worse by no more than the margin. For a loss on 400
rows with skewed differences it is 80 %."""


def provable_margin(metric: str, first: Scores, second: Scores, level: float) -> float:
    """Returns the smallest margin that these rows can prove: a system that is equally good as `first` stays within it.

    It depends on the rows and on how much the two systems' answers differ, not on which of them is better. An equally
    good system passes in `EQUAL_PASSES` of the cases.

    Args:
        metric: Name of a metric of scored rows.
        first: One system's scores.
        second: The other system's scores of the same rows.
        level: Confidence level of the two-sided interval whose worse end has to be within the margin.
    """
    if is_share(metric):
        wins, losses, rows = told_apart(metric, first, second)
        return margin_of_counts(wins + losses, rows, level)
    return margin_of_rows(row_differences(metric, first, second), level, less_is_better=less_is_better(metric))


def margin_of_counts(told: int, rows: int, level: float) -> float:
    """Returns the margin for an accuracy if exactly one of the systems is right on `told` of the rows."""
    import numpy as np
    from scipy.special import bdtr

    wins = int((bdtr(np.arange(told + 1), told, 0.5) < 1 - EQUAL_PASSES).sum())  # or more, so often
    return -least_difference(wins, told - wins, rows, (1 - level) / 2)


def margin_of_rows(found: RowDifferences, level: float, *, less_is_better: bool) -> float:
    """Returns the margin for a metric that is a mean over rows."""
    from scipy.special import stdtrit

    rows = len(found.values)
    interval = mean_interval(found, level)
    to_the_end = interval.high - interval.mean if less_is_better else interval.mean - interval.low
    chance = float(stdtrit(max(rows - 1, 1), EQUAL_PASSES))
    return to_the_end + chance * float(found.values.std(ddof=min(1, rows - 1))) / math.sqrt(rows)


def margin_of_normal_rows(rows: int, level: float) -> float:
    """Returns the margin for `rows` normally distributed differences, in units of their standard deviation."""
    import numpy as np
    from scipy.special import ndtri

    values = ndtri((np.arange(rows) + 0.5) / rows)
    found = RowDifferences(values, float(values.min()), float(values.max()))
    return margin_of_rows(found, level, less_is_better=True)


def rows_for(margin: float, provable: float, rows: int) -> int:
    """Estimates the rows that prove `margin` if `rows` prove `provable`; errors shrink with the square root of rows."""
    needed = rows * (provable / margin) ** 2
    unit = 10 ** max(0, math.floor(math.log10(needed)) - 1) if needed > 0 else 1
    return math.ceil(needed / unit) * unit
