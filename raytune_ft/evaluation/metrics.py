"""Computes accuracy, F1 and loss, and each row's contribution to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raytune_ft.metrics.named import ACCURACY, LOSS, MACRO_F1, PREFERENCE_ACCURACY, WEIGHTED_F1
from raytune_ft.objectives.scoring.names import CHOSEN, REJECTED

if TYPE_CHECKING:
    import numpy as np

    from raytune_ft.objectives.scoring.scores import Scores


def metric_value(name: str, scores: Scores) -> float:
    """Returns one metric over all rows.

    Args:
        name: `loss` (nats per answer token), `accuracy`, `macro_f1` (over the classes that are chosen or expected),
            `weighted_f1`, or `preference_accuracy`.
        scores: One model's scores.
    """
    if name == LOSS:
        return float((scores.loss * scores.tokens).sum() / scores.tokens.sum())
    if name in OF_A_ROW:
        return float(OF_A_ROW[name](scores).mean())
    table = _f1_table(name, scores, _classes(scores))
    return float((table.weights * table.f1).sum())


def is_right(scores: Scores) -> np.ndarray:
    """Returns whether the chosen label of each row is the true one, bool, [n]."""
    assert scores.choice is not None and scores.expected is not None  # the configuration requires labels for these
    return scores.choice == scores.expected  # type: ignore[no-any-return]


def is_preferred(scores: Scores) -> np.ndarray:
    """Returns whether the chosen answer of each row is likelier per token than the rejected one, bool, [n]."""
    return scores.more[CHOSEN] > scores.more[REJECTED]


OF_A_ROW: dict[str, Callable[[Scores], np.ndarray]] = {ACCURACY: is_right, PREFERENCE_ACCURACY: is_preferred}
"""Metric that is a mean over rows -> (n,) what each row adds to it."""
_F1 = (MACRO_F1, WEIGHTED_F1)


@dataclass(frozen=True)
class RowDifferences:
    """Each row's contribution to the difference second minus first in a metric.

    Attributes:
        values: float64, [n]; their mean is the difference. Loss and F1 are not means over rows; for them this holds to
            first order (the metric's influence function, Efron and Tibshirani 1993, ch. 21).
        least: The value of the row that favours the first system most: the metric's bound, or else the lowest value.
        most: The same for the second system.
    """

    values: np.ndarray
    least: float
    most: float


def row_differences(name: str, first: Scores, second: Scores) -> RowDifferences:
    """Of two models' scores of the same rows.

    Raises:
        ValueError: It is not known what a row adds to the metric, so nothing can be said of how sure it is.
    """
    difference = metric_value(name, second) - metric_value(name, first)
    if name == LOSS:  # it has no bound, so the rows' own extremes are used
        share = first.tokens / first.tokens.mean()
        values = difference + share * (second.loss - first.loss - difference)
        return RowDifferences(values, float(values.min()), float(values.max()))
    if name in OF_A_ROW:
        values = OF_A_ROW[name](second) * 1.0 - OF_A_ROW[name](first)
        return RowDifferences(values, float(values.min()), float(values.max()))
    if name not in _F1:
        raise ValueError(f"metric {name!r} has no differences by row; add it to OF_A_ROW or to row_differences")
    classes = max(_classes(first), _classes(second))
    one, other = (_influences(name, scores, classes) for scores in (first, second))
    expected = first.expected
    values = difference + other[expected, second.choice] - one[expected, first.choice]
    there = sorted(set(expected.tolist() if expected is not None else ()))
    least = min(float(other[k].min() - one[k, k]) for k in there)
    most = max(float(other[k, k] - one[k].min()) for k in there)
    return RowDifferences(values, difference + least, difference + most)


@dataclass(frozen=True)
class _F1Table:
    """For each class, [classes]: F1, its weight in the mean, and the fractions of rows that expect and that get it."""

    f1: np.ndarray
    weights: np.ndarray
    support: np.ndarray
    chosen: np.ndarray


def _f1_table(name: str, scores: Scores, classes: int) -> _F1Table:
    """Computes the table; a class that is neither chosen nor expected has F1 0 and weight 0."""
    import numpy as np

    assert scores.choice is not None and scores.expected is not None
    rows = len(scores.expected)
    support = np.bincount(scores.expected, minlength=classes) / rows
    chosen = np.bincount(scores.choice, minlength=classes) / rows
    hit = np.bincount(scores.expected[is_right(scores)], minlength=classes) / rows
    both = support + chosen
    f1 = 2 * hit / np.where(both > 0, both, 1)
    weights = support if name == WEIGHTED_F1 else (both > 0) / (both > 0).sum()
    return _F1Table(f1, weights, support, chosen)


def _influences(name: str, scores: Scores, classes: int) -> np.ndarray:
    """Returns the influence of a row on the metric by its expected and chosen class, float64, [classes, classes].

    The mean over all rows is 0.
    """
    import numpy as np

    table = _f1_table(name, scores, classes)
    both = table.support + table.chosen
    slope = np.where(both > 0, table.weights / np.where(both > 0, both, 1), 0.0)
    found = 2 * np.diag(slope) - (slope * table.f1)[:, None] - (slope * table.f1)[None, :]
    if name == WEIGHTED_F1:  # a row changes the weights too
        found = found + (table.f1 - (table.weights * table.f1).sum())[:, None]
    return np.asarray(found)


def _classes(scores: Scores) -> int:
    assert scores.choice is not None and scores.expected is not None
    return int(max(scores.choice.max(), scores.expected.max())) + 1
