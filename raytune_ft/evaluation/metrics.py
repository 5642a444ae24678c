"""Accuracy, F1 and loss, and what each row adds to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from raytune_ft.evaluation.scoring import Scores


def metric_value(name: str, scores: Scores) -> float:
    """One metric of all rows.

    Args:
        name: `loss` (nats per answer token), `accuracy`, `macro_f1` (over the classes that are chosen or expected)
            or `weighted_f1`.
        scores: One model's.
    """
    if name == "loss":
        return float((scores.loss * scores.tokens).sum() / scores.tokens.sum())
    if name in OF_A_ROW:
        return float(OF_A_ROW[name](scores).mean())
    table = _f1_table(name, scores, _classes(scores))
    return float((table.weights * table.f1).sum())


def is_right(scores: Scores) -> np.ndarray:
    """(n,) bool: whether the chosen label is the true one."""
    assert scores.choice is not None and scores.expected is not None  # the configuration asks for labels with these
    return scores.choice == scores.expected  # type: ignore[no-any-return]


OF_A_ROW: dict[str, Callable[[Scores], np.ndarray]] = {"accuracy": is_right}
"""Metric that is a mean over rows -> (n,) what each row adds to it."""
_F1 = ("macro_f1", "weighted_f1")


@dataclass(frozen=True)
class RowDifferences:
    """What each row says of second minus first, in a metric.

    Attributes:
        values: (n,) float64 whose mean is the difference. Of a loss and of F1, which are no means over rows, to first
            order (the metric's influence function, Efron and Tibshirani 1993, ch. 21).
        least: The value of a row that speaks for the first system as much as one can, as far as the metric or the rows
            tell.
        most: The same for the second.
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
    if name == "loss":  # it has no bound, so the rows are asked
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
    """(classes,) each: F1, its weight in the mean, and the share of rows that expect and that get the class."""

    f1: np.ndarray
    weights: np.ndarray
    support: np.ndarray
    chosen: np.ndarray


def _f1_table(name: str, scores: Scores, classes: int) -> _F1Table:
    """F1 is 0 for a class that is neither chosen nor expected, and such a class weighs nothing."""
    import numpy as np

    assert scores.choice is not None and scores.expected is not None
    rows = len(scores.expected)
    support = np.bincount(scores.expected, minlength=classes) / rows
    chosen = np.bincount(scores.choice, minlength=classes) / rows
    hit = np.bincount(scores.expected[is_right(scores)], minlength=classes) / rows
    both = support + chosen
    f1 = 2 * hit / np.where(both > 0, both, 1)
    weights = support if name == "weighted_f1" else (both > 0) / (both > 0).sum()
    return _F1Table(f1, weights, support, chosen)


def _influences(name: str, scores: Scores, classes: int) -> np.ndarray:
    """(classes, classes) float64: how a row's expected and chosen class move the metric; their mean is 0."""
    import numpy as np

    table = _f1_table(name, scores, classes)
    both = table.support + table.chosen
    slope = np.where(both > 0, table.weights / np.where(both > 0, both, 1), 0.0)
    found = 2 * np.diag(slope) - (slope * table.f1)[:, None] - (slope * table.f1)[None, :]
    if name == "weighted_f1":  # the row moves the weights too
        found = found + (table.f1 - (table.weights * table.f1).sum())[:, None]
    return np.asarray(found)


def _classes(scores: Scores) -> int:
    assert scores.choice is not None and scores.expected is not None
    return int(max(scores.choice.max(), scores.expected.max())) + 1
