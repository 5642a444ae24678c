"""The paired bootstrap's interval means what it says."""

from __future__ import annotations

import numpy as np
import pytest

import raytune_ft.evaluation.bootstrap as bootstrap_module
from raytune_ft.evaluation.bootstrap import Difference, paired_bootstrap
from raytune_ft.evaluation.scoring import Scores


def right(correct: np.ndarray, loss: np.ndarray | None = None) -> Scores:
    """A system that is right where `correct` says so."""
    rows = len(correct)
    expected = np.arange(rows) % 3
    losses = np.zeros(rows) if loss is None else loss
    return Scores(losses, np.ones(rows, dtype=np.int64), np.where(correct, expected, (expected + 1) % 3), expected)


def interval(
    first: Scores, second: Scores, metric: str = "accuracy", seed: int = 0, resamples: int = 500
) -> Difference:
    return paired_bootstrap(metric, first, second, resamples=resamples, level=0.95, seed=seed)


@pytest.mark.parametrize("metric", ["loss", "accuracy", "macro_f1", "weighted_f1"])
def test_a_system_does_not_differ_from_itself(metric: str) -> None:
    one = right(np.random.default_rng(0).random(200) < 0.7, np.random.default_rng(1).random(200))
    assert interval(one, one, metric) == Difference(0.0, 0.0, 0.0, 0.95)


def test_rows_are_drawn_for_both_so_that_their_common_noise_falls_out() -> None:
    noise = np.random.default_rng(0).normal(3.0, 2.0, 300)
    found = interval(right(noise > 0, noise), right(noise > 0, noise - 0.25), "loss")
    assert (found.mean, found.low, found.high) == pytest.approx((-0.25, -0.25, -0.25))


def test_a_known_gap_lies_inside_and_zero_outside() -> None:
    draw = np.random.default_rng(0)
    base = draw.random(1000) < 0.7
    tuned = np.where(base, draw.random(1000) < 0.95, draw.random(1000) < 0.5)
    found = interval(right(base), right(tuned))
    assert found.mean == pytest.approx(tuned.mean() - base.mean())
    assert 0 < found.low < found.mean < found.high
    assert found.low < 0.7 * 0.95 + 0.3 * 0.5 - 0.7 < found.high
    back = interval(right(tuned), right(base))
    assert (back.mean, back.low, back.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        base, tuned = draw.random(150) < 0.6, draw.random(150) < 0.7
        found = interval(right(base), right(tuned), seed=seed, resamples=300)
        held += found.low <= 0.1 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_the_width_is_the_normal_theorys() -> None:
    draw = np.random.default_rng(0)
    base, tuned = draw.random(2000) < 0.6, draw.random(2000) < 0.7
    found = interval(right(base), right(tuned), resamples=2000)
    theory = 2 * 1.96 * np.std(tuned.astype(float) - base) / np.sqrt(2000)
    assert found.high - found.low == pytest.approx(theory, rel=0.1)


def test_the_same_seed_gives_the_same_interval_in_any_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    first, second = right(draw.random(101) < 0.6), right(draw.random(101) < 0.7)
    whole = interval(first, second)
    assert interval(first, second) == whole
    assert interval(first, second, seed=1) != whole
    monkeypatch.setattr(bootstrap_module, "DRAWN_AT_ONCE", 707)
    assert interval(first, second) == whole
    monkeypatch.setattr(bootstrap_module, "DRAWN_AT_ONCE", 1)
    assert interval(first, second) == whole
