"""Accuracy, F1 and loss, against values worked out by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from raytune_ft.evaluation.metrics import metric_value
from raytune_ft.objectives.scoring.scores import Scores


def scores(expected: list[int], choice: list[int]) -> Scores:
    rows = len(expected)
    return Scores(np.zeros(rows), np.ones(rows, dtype=np.int64), np.array(choice), np.array(expected))


def by_definition(name: str, expected: list[int], choice: list[int]) -> float:
    """F1 from precision and recall, one class at a time."""
    parts = []
    for label in sorted({*expected, *choice}):
        hits = sum(e == c == label for e, c in zip(expected, choice, strict=True))
        chosen, support = choice.count(label), expected.count(label)
        precision = Fraction(hits, chosen) if chosen else Fraction(0)
        recall = Fraction(hits, support) if support else Fraction(0)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else Fraction(0)
        parts.append((f1, 1 if name == "macro_f1" else support))
    return float(sum(f1 * weight for f1, weight in parts) / sum(weight for _, weight in parts))


def test_a_worked_example() -> None:
    # class 0: 2 of 3 found, 2 of 2 chosen rightly: F1 0.8; class 1: 1 of 2, 1 of 2: 0.5; class 2: 1 of 1, 1 of 2: 2/3
    of = scores([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2])
    assert metric_value("accuracy", of) == pytest.approx(4 / 6)
    assert metric_value("macro_f1", of) == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert metric_value("weighted_f1", of) == pytest.approx((3 * 0.8 + 2 * 0.5 + 2 / 3) / 6)


@pytest.mark.parametrize("name", ["macro_f1", "weighted_f1"])
@pytest.mark.parametrize(
    ("expected", "choice"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 0]),  # class 1 neither expected nor chosen
        ([0, 0, 2, 2], [0, 1, 2, 2]),  # class 1 chosen, never expected
        ([0, 1, 2], [0, 0, 0]),  # classes 1 and 2 expected, never chosen
        ([1, 1, 1], [1, 1, 1]),
        ([0, 0], [1, 1]),
        ([0], [2]),
    ],
)
def test_f1_with_an_absent_class_follows_the_definition(name: str, expected: list[int], choice: list[int]) -> None:
    assert metric_value(name, scores(expected, choice)) == pytest.approx(by_definition(name, expected, choice))


@pytest.mark.parametrize("name", ["macro_f1", "weighted_f1"])
def test_f1_of_any_rows_follows_the_definition(name: str) -> None:
    draw = np.random.default_rng(0)
    for _ in range(100):
        rows, classes = int(draw.integers(1, 30)), int(draw.integers(2, 6))
        expected, choice = (draw.integers(0, classes, rows).tolist() for _ in range(2))
        assert metric_value(name, scores(expected, choice)) == pytest.approx(by_definition(name, expected, choice))


def test_loss_is_per_token_not_per_row() -> None:
    of = Scores(np.array([1.0, 4.0]), np.array([3, 1]), None, None)
    assert metric_value("loss", of) == pytest.approx((3 * 1.0 + 1 * 4.0) / 4)
