"""The interval of the difference means what it says, and is the same for whoever asks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from raytune_ft.evaluation.interval import Difference, paired_interval
from raytune_ft.evaluation.matched_pairs import least_difference
from raytune_ft.evaluation.metrics import metric_value, row_differences
from raytune_ft.objectives.scoring.scores import Scores


def right(correct: np.ndarray, loss: np.ndarray | None = None) -> Scores:
    """A system that is right where `correct` says so."""
    rows = len(correct)
    expected = np.arange(rows) % 3
    losses = np.zeros(rows) if loss is None else loss
    return Scores(losses, np.ones(rows, dtype=np.int64), np.where(correct, expected, (expected + 1) % 3), expected)


def interval(first: Scores, second: Scores, metric: str = "accuracy") -> Difference:
    return paired_interval(metric, first, second, 0.95)


def test_a_system_does_not_differ_from_itself() -> None:
    one = right(np.random.default_rng(0).random(200) < 0.7, np.random.default_rng(1).random(200))
    assert interval(one, one, "loss") == Difference(0.0, 0.0, 0.0, 0.95)
    for metric in ("accuracy", "macro_f1", "weighted_f1"):
        found = interval(one, one, metric)  # rows that were not asked may still tell them apart
        assert found.mean == pytest.approx(0, abs=1e-12) and found.high == pytest.approx(-found.low)
        assert 0 < found.high < 0.05


def test_rows_are_compared_in_pairs_so_that_their_common_noise_falls_out() -> None:
    noise = np.random.default_rng(0).normal(3.0, 2.0, 300)
    found = interval(right(noise > 0, noise), right(noise > 0, noise - 0.25), "loss")
    assert (found.mean, found.low, found.high) == pytest.approx((-0.25, -0.25, -0.25))


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "weighted_f1"])
def test_a_known_gap_lies_inside_and_zero_outside(metric: str) -> None:
    draw = np.random.default_rng(0)
    base = draw.random(1000) < 0.7
    tuned = np.where(base, draw.random(1000) < 0.95, draw.random(1000) < 0.5)
    one, other = right(base), right(tuned)
    found = interval(one, other, metric)
    assert found.mean == pytest.approx(metric_value(metric, other) - metric_value(metric, one))
    assert 0 < found.low < found.mean < found.high
    assert found.low < 0.7 * 0.95 + 0.3 * 0.5 - 0.7 < found.high
    back = interval(other, one, metric)
    assert (back.mean, back.low, back.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_the_loss_is_weighted_by_tokens_in_mean_and_interval() -> None:
    draw = np.random.default_rng(0)
    tokens = draw.integers(1, 30, 500)
    first, second = (Scores(draw.exponential(1.0, 500), tokens, None, None) for _ in range(2))
    found = interval(first, second, "loss")
    assert found.mean == pytest.approx(metric_value("loss", second) - metric_value("loss", first))
    gap = (second.loss - first.loss - found.mean) * tokens / tokens.mean()  # of a ratio, to first order
    assert 1 < (found.high - found.low) / (2 * 1.96 * gap.std() / np.sqrt(500)) < 1.5


@pytest.mark.parametrize("name", ["macro_f1", "weighted_f1"])
def test_the_first_order_of_f1_is_what_leaving_a_row_out_changes(name: str) -> None:
    draw = np.random.default_rng(3)
    expected, (one, other) = draw.integers(0, 4, 300), draw.integers(0, 4, (2, 300))
    first, second = (_choosing(each, expected) for each in (one, other))
    found = row_differences(name, first, second)
    whole = metric_value(name, second) - metric_value(name, first)
    assert found.values.mean() == pytest.approx(whole, abs=1e-12)
    for row in range(0, 300, 30):
        kept = np.arange(300) != row
        left = [metric_value(name, _choosing(each[kept], expected[kept])) for each in (one, other)]
        jackknife = whole + 299 * (whole - (left[1] - left[0]))
        assert found.values[row] == pytest.approx(jackknife, abs=0.03)
    assert found.least <= found.values.min() and found.values.max() <= found.most


def _choosing(choice: np.ndarray, expected: np.ndarray) -> Scores:
    return Scores(np.zeros(len(choice)), np.ones(len(choice), dtype=np.int64), choice, expected)


@pytest.mark.parametrize("wins", range(4, 13))
def test_the_exact_interval_agrees_with_mcnemars_exact_test_that_no_difference_is_shown(wins: int) -> None:
    low = least_difference(wins, 12 - wins, 60, 0.025)
    pvalue = binomtest(wins, 12, alternative="greater").pvalue
    if pvalue > 0.05:  # the exact test asks for a little more than it says
        assert low < 0
    if pvalue <= 0.01:
        assert low > 0


def test_the_exact_interval_of_many_rows_is_the_normal_theorys() -> None:
    low, high = least_difference(500, 450, 10_000, 0.025), -least_difference(450, 500, 10_000, 0.025)
    theory = 1.96 * np.sqrt(0.095 - 0.005**2) / 100
    assert (low, high) == pytest.approx((0.005 - theory, 0.005 + theory), abs=1e-4)


@pytest.mark.parametrize(
    ("wins", "losses", "rows", "low", "high"),
    [
        (0, 0, 400, -0.0129, 0.0129),  # nothing was seen of 400 rows: about three in a thousand may be missed, and more
        (12, 12, 400, -0.0262, 0.0262),
        (49, 20, 400, 0.0320, 0.1148),
        (4, 0, 16, -0.0087, 0.5695),
        (1, 0, 1, -0.9510, 1.0),
        (16, 0, 16, 0.5862, 1.0),
    ],
)
def test_the_exact_interval_of_a_few_counts(wins: int, losses: int, rows: int, low: float, high: float) -> None:
    found = least_difference(wins, losses, rows, 0.025), -least_difference(losses, wins, rows, 0.025)
    assert found == pytest.approx((low, high), abs=1e-4)


def test_any_counts_of_a_few_rows_have_an_interval_around_what_was_seen() -> None:
    for rows in range(1, 6):
        for wins in range(rows + 1):
            for losses in range(rows - wins + 1):
                low, high = least_difference(wins, losses, rows, 0.025), -least_difference(losses, wins, rows, 0.025)
                assert -1 <= low <= (wins - losses) / rows <= high <= 1
                assert (low == -1) == (losses == rows) or low < -0.9


def test_a_higher_level_has_a_wider_interval() -> None:
    draw = np.random.default_rng(0)
    first, second = (right(draw.random(100) < 0.7, draw.exponential(1.0, 100)) for _ in range(2))
    for metric in ("loss", "accuracy", "macro_f1", "weighted_f1"):
        narrow, wide = (paired_interval(metric, first, second, level) for level in (0.8, 0.99))
        assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high
