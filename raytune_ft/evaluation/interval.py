"""How sure the difference between two systems on the same rows is: the one interval that is shown and judged by.

An end errs about as often as it says at most: of accuracy with any number of rows; of F1, whose rows are bounded, with
16 or more; of a loss with 40 or more also where the rows' differences are as skewed as a lognormal distribution (with
16, it then errs 2.2 times as often; where they are not skewed, a quarter as often).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raytune_ft.evaluation.matched_pairs import least_difference
from raytune_ft.evaluation.metrics import RowDifferences, is_right, row_differences

if TYPE_CHECKING:
    from raytune_ft.evaluation.scoring import Scores

_UNSEEN = 2
"""Rows that are added for each end, as bad for it as a row can be; of a loss, as the worst that was seen. Student's t
alone errs in 5.2 % of the cases instead of 2.5 % with 400 lognormal differences: the rows that would tell are rare."""


@dataclass(frozen=True)
class Difference:
    """Second system minus first, with its interval; each end errs in `(1 - level) / 2` of the cases at most."""

    mean: float
    low: float
    high: float
    level: float


def paired_interval(metric: str, first: Scores, second: Scores, level: float) -> Difference:
    """The difference of `metric` on the same rows, with its interval.

    Accuracy: exact (`matched_pairs`). Loss and F1: Student's t with rows for what was not seen.

    Args:
        metric: `loss`, `accuracy`, `macro_f1` or `weighted_f1`.
        first: One system's scores.
        second: The other's, of the same rows.
        level: Of the whole interval, e.g. 0.95.
    """
    error = (1 - level) / 2
    if metric == "accuracy":
        wins, losses, rows = told_apart(first, second)
        low, high = least_difference(wins, losses, rows, error), -least_difference(losses, wins, rows, error)
        return Difference((wins - losses) / rows, low, high, level)
    return mean_interval(row_differences(metric, first, second), level)


def mean_interval(found: RowDifferences, level: float) -> Difference:
    """The mean of the rows' values, with its interval by Student's t and `_UNSEEN` rows for each end."""
    from scipy.special import stdtrit

    rows, whole = len(found.values), len(found.values) + _UNSEEN
    reach = float(stdtrit(max(rows - 1, 1), (1 + level) / 2))
    ends = []
    for worst, side in ((found.least, -1), (found.most, 1)):
        mean = (found.values.sum() + _UNSEEN * worst) / whole
        squares = ((found.values - mean) ** 2).sum() + _UNSEEN * (worst - mean) ** 2
        ends.append(float(mean + side * reach * math.sqrt(squares / (whole - 1) / whole)))
    return Difference(float(found.values.mean()), ends[0], ends[1], level)


def told_apart(first: Scores, second: Scores) -> tuple[int, int, int]:
    """Rows on which the second alone is right, those on which the first alone is, and all."""
    one, other = is_right(first), is_right(second)
    return int((other & ~one).sum()), int((one & ~other).sum()), len(one)
