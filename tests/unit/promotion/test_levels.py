"""How often the gates err, at 16, 50 and 400 test rows: worked out for accuracy, simulated for the loss and F1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from raytune_ft.config.experiment import Evaluate, Experiment
from raytune_ft.config.promotion import NoWorseGate, PromotionConfig
from raytune_ft.evaluation.interval import paired_interval
from raytune_ft.evaluation.margin import margin_of_counts, provable_margin
from raytune_ft.evaluation.matched_pairs import least_difference
from raytune_ft.objectives.scoring.scores import Scores
from raytune_ft.promotion.judged import Gain, judge_gain
from raytune_ft.promotion.no_worse import Champion, judge_no_worse
from raytune_ft.registry.manifest import Manifest

NOMINAL = 0.025
AT_MOST = 1.2 * NOMINAL
SIZES = (16, 50, 400)
Draw = Callable[[np.random.Generator, int], np.ndarray]
"""Rows' differences of mean 0."""
SKEWED: dict[str, Draw] = {
    "exponential": lambda draw, rows: draw.exponential(1.0, rows) - 1,
    "lognormal": lambda draw, rows: draw.lognormal(0.0, 1.0, rows) - np.exp(0.5),
    "mostly none": lambda draw, rows: draw.exponential(1.0, rows) * (draw.random(rows) < 0.3) - 0.3,
}
EVEN: dict[str, Draw] = {
    "normal": lambda draw, rows: draw.normal(0.0, 1.0, rows),
    "two exponential losses": lambda draw, rows: draw.exponential(1.0, rows) - draw.exponential(1.0, rows),
    "two lognormal losses": lambda draw, rows: draw.lognormal(0.0, 1.0, rows) - draw.lognormal(0.0, 1.0, rows),
}
CHAMPION = Champion(
    Path("registry/movies/1"), Manifest.model_construct(adapter="movies", version=1, data_fingerprint="f")
)
EXPERIMENT = Experiment.model_construct(evaluate=Evaluate(), promotion=PromotionConfig())


def losses(loss: np.ndarray) -> Scores:
    return Scores(loss, np.ones(len(loss), dtype=np.int64), None, None)


def gains(first: Scores, second: Scores, metric: str, min_rows: int) -> bool:
    found = paired_interval(metric, first, second, 0.95)
    gain = Gain(metric, found.mean, found.low, found.high)
    return bool(judge_gain(gain, len(first.loss), min_rows).passed)


def no_worse(champion: Scores, winner: Scores, metric: str, margin: float | None) -> bool:
    promotion = PromotionConfig(no_worse=NoWorseGate(margin=margin))
    experiment = EXPERIMENT.model_copy(update={"promotion": promotion})
    return bool(judge_no_worse(CHAMPION, champion, winner, metric, experiment, "f").passed)


LEVEL = 8.0
"""The champion's loss, where a margin follows from the rows: at most half of it."""


def share(times: int, happens: Callable[[np.random.Generator], bool]) -> float:
    draw = np.random.default_rng(7)
    return sum(happens(draw) for _ in range(times)) / times


# -- the loss


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("name", [*SKEWED, *EVEN])
def test_a_loss_that_is_no_better_than_the_bases_rarely_passes_as_a_gain(name: str, rows: int) -> None:
    difference = {**SKEWED, **EVEN}[name]
    min_rows = 2 if name in EVEN or name == "exponential" else PromotionConfig().min_rows

    def false_gain(draw: np.random.Generator) -> bool:
        return gains(losses(np.zeros(rows)), losses(difference(draw, rows)), "loss", min_rows)

    found = share(5000 if rows < 400 else 2500, false_gain)
    assert found <= AT_MOST
    if name not in EVEN and rows >= min_rows:
        assert found > 0  # not by refusing everything


@pytest.mark.parametrize("name", SKEWED)
def test_by_the_percentiles_of_a_bootstrap_it_would_pass_too_often(name: str) -> None:
    """The rule that this one replaced: the simulation above tells the two apart."""
    rows = 50

    def false_gain(draw: np.random.Generator) -> bool:
        seen = SKEWED[name](draw, rows)
        return bool(np.quantile(seen[draw.integers(0, rows, (400, rows))].mean(axis=1), 1 - NOMINAL) < 0)

    assert share(1000, false_gain) > 1.3 * AT_MOST


@pytest.mark.parametrize("rows", [40, 400])
def test_a_clear_gain_of_the_loss_passes(rows: int) -> None:
    """Half of the base's loss is gone, of losses that are spread as one of a language model."""

    def gain(draw: np.random.Generator) -> bool:
        base = draw.exponential(1.0, rows)
        return gains(losses(base), losses(0.5 * base * draw.lognormal(0.0, 0.4, rows)), "loss", 40)

    assert share(500, gain) > 0.95


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("name", ["exponential", "normal", "two exponential losses"])
def test_a_loss_that_is_worse_by_the_margin_rarely_passes_as_no_worse(name: str, rows: int) -> None:
    difference, margin = {**SKEWED, **EVEN}[name], 3.2 / np.sqrt(rows)

    def false(draw: np.random.Generator) -> bool:
        return no_worse(losses(np.zeros(rows)), losses(difference(draw, rows) + margin), "loss", margin)

    assert share(3000 if rows < 400 else 1500, false) <= AT_MOST


@pytest.mark.parametrize(
    ("name", "rows"), [*((name, rows) for name in EVEN for rows in SIZES[1:]), ("exponential", 400)]
)
def test_an_equal_loss_passes_within_the_default_margin(name: str, rows: int) -> None:
    difference = {**SKEWED, **EVEN}[name]
    for side in (1, -1):

        def passes(draw: np.random.Generator, side: int = side) -> bool:
            return no_worse(losses(LEVEL + np.zeros(rows)), losses(LEVEL + side * difference(draw, rows)), "loss", None)

        assert share(1500, passes) >= 0.8


@pytest.mark.parametrize("rows", SIZES)
def test_what_the_default_margin_promises_is_kept(rows: int) -> None:
    """It follows from the rows, so it is not known before; a winner that passes is truly worse by it as rarely."""

    def broken(draw: np.random.Generator) -> bool:
        truly = 2.0 / np.sqrt(rows)
        worse = EVEN["two exponential losses"](draw, rows) + truly
        champion, winner = losses(LEVEL + np.zeros(rows)), losses(LEVEL + worse)
        return no_worse(champion, winner, "loss", None) and provable_margin("loss", champion, winner, 0.95) < truly

    assert share(2500, broken) <= AT_MOST


# -- accuracy: its chances can be summed up


@cache
def wins_that_pass(rows: int, told: int, above: float) -> int:
    """The fewest of `told` rows for which the interval's low end lies above; one more than `told` where none do."""
    low, high = -1, told + 1
    while high - low > 1:
        middle = (low + high) // 2
        if least_difference(middle, told - middle, rows, NOMINAL) > above:
            high = middle
        else:
            low = middle
    return high


def chance(rows: int, differ: float, truly: float, needed: Callable[[int], int]) -> float:
    """Of passing, where `differ` of the rows tell the two apart and the second is better by `truly`."""
    told = np.arange(int(binom.ppf(1e-4, rows, differ)), int(binom.ppf(1 - 1e-4, rows, differ)) + 1)
    wins = np.array([needed(int(count)) for count in told])
    return float((binom.pmf(told, rows, differ) * binom.sf(wins - 1, told, (1 + truly / differ) / 2)).sum())


@pytest.mark.parametrize(("rows", "differ"), [(16, 0.1), (16, 0.3), (16, 0.6), (50, 0.1), (50, 0.3), (400, 0.06)])
def test_an_accuracy_that_is_no_better_than_the_bases_never_passes_more_often_than_it_says(
    rows: int, differ: float
) -> None:
    assert chance(rows, differ, 0.0, lambda told: wins_that_pass(rows, told, 0.0)) <= NOMINAL


@pytest.mark.parametrize(
    ("rows", "differ", "margin"), [(16, 0.3, 0.2), (16, 0.6, 0.3), (50, 0.15, 0.1), (50, 0.4, 0.1), (400, 0.06, 0.03)]
)
def test_an_accuracy_that_is_worse_by_the_margin_never_passes_more_often_than_it_says(
    rows: int, differ: float, margin: float
) -> None:
    assert chance(rows, differ, -margin, lambda told: wins_that_pass(rows, told, -margin)) <= NOMINAL


@pytest.mark.parametrize("told", [0, 1, 4, 12, 24, 90])
@pytest.mark.parametrize("rows", [100, 400])
def test_an_equal_accuracy_passes_within_the_default_margin(rows: int, told: int) -> None:
    """However many rows tell the two apart."""
    margin = margin_of_counts(told, rows, 0.95)
    needed = wins_that_pass(rows, told, -margin - 1e-9)
    assert binom.sf(needed - 1, told, 0.5) >= 0.8
    assert needed == 0 or binom.sf(needed, told, 0.5) < 0.84, "the margin is no wider than that takes"


def test_four_points_worse_does_not_pass_at_400_rows_by_default() -> None:
    """Of adapters that differ on 6 % of the rows, whose margin is then 3.6 points."""
    assert margin_of_counts(24, 400, 0.95) == pytest.approx(0.0363, abs=0.0005)
    assert chance(400, 0.06, -0.04, lambda told: wins_that_pass(400, told, -0.0363)) <= NOMINAL


# -- F1


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("metric", ["macro_f1", "weighted_f1"])
def test_an_f1_that_is_no_better_than_the_bases_rarely_passes_as_a_gain(metric: str, rows: int) -> None:
    classes = (0.6, 0.3, 0.1)

    def choose(draw: np.random.Generator, expected: np.ndarray) -> np.ndarray:
        wrong = (expected + draw.integers(1, len(classes), rows)) % len(classes)
        return np.where(draw.random(rows) < 0.8, expected, wrong)

    def false(draw: np.random.Generator) -> bool:
        expected = draw.choice(len(classes), rows, p=classes)
        first = replace(losses(np.zeros(rows)), choice=choose(draw, expected), expected=expected)
        return gains(first, replace(first, choice=choose(draw, expected)), metric, 2)

    assert share(1000, false) <= AT_MOST
