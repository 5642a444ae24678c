"""How small a loss of quality a number of rows can rule out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from raytune_ft.evaluation.interval import mean_interval, told_apart
from raytune_ft.evaluation.matched_pairs import least_difference
from raytune_ft.evaluation.metrics import RowDifferences, row_differences
from raytune_ft.metrics.named import less_is_better

if TYPE_CHECKING:
    from raytune_ft.evaluation.scoring import Scores

EQUAL_PASSES = 0.84
"""How often an equally good system is shown to be worse by no more than the margin, at least; a loss of 400 rows whose
differences are skewed has 80 %."""


def provable_margin(metric: str, first: Scores, second: Scores, level: float) -> float:
    """How much worse than `first` a system may still be where it is shown to be as good as these rows can show.

    It follows from the rows and from how much the two systems' answers differ, not from which of them is better: a
    system that is equally good ends inside of it in `EQUAL_PASSES` of the cases.

    Args:
        metric: `loss`, `accuracy`, `macro_f1` or `weighted_f1`.
        first: One system's scores.
        second: The other's, of the same rows.
        level: Of the two-sided interval whose worse end has to lie inside.
    """
    if metric == "accuracy":
        wins, losses, rows = told_apart(first, second)
        return margin_of_counts(wins + losses, rows, level)
    return margin_of_rows(row_differences(metric, first, second), level, less_is_better=less_is_better(metric))


def margin_of_counts(told: int, rows: int, level: float) -> float:
    """For an accuracy, where one system alone is right on `told` of the rows."""
    import numpy as np
    from scipy.special import bdtr

    wins = int((bdtr(np.arange(told + 1), told, 0.5) < 1 - EQUAL_PASSES).sum())  # or more, in so many of the cases
    return -least_difference(wins, told - wins, rows, (1 - level) / 2)


def margin_of_rows(found: RowDifferences, level: float, *, less_is_better: bool) -> float:
    """For a mean over rows."""
    from scipy.special import stdtrit

    rows = len(found.values)
    interval = mean_interval(found, level)
    to_the_end = interval.high - interval.mean if less_is_better else interval.mean - interval.low
    chance = float(stdtrit(max(rows - 1, 1), EQUAL_PASSES))
    return to_the_end + chance * float(found.values.std(ddof=min(1, rows - 1))) / math.sqrt(rows)


def margin_of_normal_rows(rows: int, level: float) -> float:
    """What so many normally distributed differences will show, in their standard deviations."""
    import numpy as np
    from scipy.special import ndtri

    values = ndtri((np.arange(rows) + 0.5) / rows)
    found = RowDifferences(values, float(values.min()), float(values.max()))
    return margin_of_rows(found, level, less_is_better=True)


def rows_for(margin: float, provable: float, rows: int) -> int:
    """About how many rows show `margin` where `rows` show `provable`: errors shrink with their root."""
    needed = rows * (provable / margin) ** 2
    unit = 10 ** max(0, math.floor(math.log10(needed)) - 1) if needed > 0 else 1
    return math.ceil(needed / unit) * unit
