"""Front, rule and order of trials with several goals."""

from __future__ import annotations

import random
from itertools import product

import pytest

from raytune_ft.config.search.goals import Metric
from raytune_ft.search.results.goals import on_front, ranking, rule_words, values_in

LOSS, SIZE, TOKENS = Metric(name="eval_loss"), Metric(name="adapter_mib"), Metric(name="tokens", mode="max")
BEST = "eval_loss within 1 %"


def trials(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    return [{"eval_loss": loss, "adapter_mib": size} for loss, size in pairs]


def test_the_front_is_what_no_other_trial_beats() -> None:
    assert on_front(trials((0.3, 4.0), (0.4, 2.0), (0.4, 4.0), (0.5, 1.0), (0.6, 1.0)), (LOSS, SIZE)) == [
        True,
        True,
        False,
        True,
        False,
    ]


def test_twins_are_both_on_the_front_and_more_is_better_where_the_mode_says_so() -> None:
    assert on_front(trials((0.3, 4.0), (0.3, 4.0)), (LOSS, SIZE)) == [True, True]
    told = [{"eval_loss": 0.3, "tokens": 10.0}, {"eval_loss": 0.3, "tokens": 20.0}]
    assert on_front(told, (LOSS, TOKENS)) == [False, True]


def test_a_trial_without_a_value_has_the_worst_one() -> None:
    told = [{"eval_loss": 0.3}, {"eval_loss": 0.3, "adapter_mib": 9.0}, {"eval_loss": 0.2}]
    assert on_front(told, (LOSS, SIZE)) == [False, True, True]
    assert on_front([], (LOSS, SIZE)) == []


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_that_of_comparing_every_pair(seed) -> None:
    draw = random.Random(seed)
    told = [
        {
            "eval_loss": draw.randrange(6) / 10,
            "adapter_mib": float(draw.randrange(6)),
            "tokens": float(draw.randrange(6)),
        }
        for _ in range(60)
    ]
    costs = [(each["eval_loss"], each["adapter_mib"], -each["tokens"]) for each in told]
    beaten = [
        any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in costs) for own in costs
    ]
    assert on_front(told, (LOSS, SIZE, TOKENS)) == [not each for each in beaten]
    assert 1 <= beaten.count(False) < len(told)


def test_the_rule_takes_the_smallest_of_those_that_are_nearly_best() -> None:
    told = trials((0.3, 9.0), (0.3029, 4.0), (0.3031, 1.0), (0.3, 5.0), (0.35, 0.5), (0.36, 7.0))
    assert ranking(told, (LOSS, SIZE), BEST)[0] == 1
    assert ranking(told, (LOSS, SIZE), BEST) == [1, 3, 2, 4, 0, 5]
    assert ranking(told, (LOSS, SIZE), None) == [3, 1, 2, 4, 0, 5]


def test_the_bound_itself_is_within_and_ties_go_to_the_next_goal() -> None:
    assert ranking(trials((0.3, 9.0), (0.303, 4.0)), (LOSS, SIZE), BEST) == [1, 0]
    told = [
        {"eval_loss": 0.3, "adapter_mib": 4.0, "tokens": 10.0},
        {"eval_loss": 0.301, "adapter_mib": 4.0, "tokens": 30.0},
        {"eval_loss": 0.302, "adapter_mib": 4.0, "tokens": 30.0},
    ]
    assert ranking(told, (LOSS, SIZE, TOKENS), BEST)[0] == 1


def test_a_rule_may_hold_another_goal_near_its_best() -> None:
    told = trials((0.3, 9.0), (0.4, 2.1), (0.5, 2.0))
    assert ranking(told, (LOSS, SIZE), "adapter_mib within 10 %") == [1, 0, 2]


def test_the_winner_is_always_on_the_front() -> None:
    for losses in product((0.3, 0.301, 0.302), repeat=3):
        for sizes in product((1.0, 2.0), repeat=3):
            told = trials(*zip(losses, sizes, strict=True))
            assert on_front(told, (LOSS, SIZE))[ranking(told, (LOSS, SIZE), BEST)[0]]


def test_one_goal_ranks_by_itself_and_ties_keep_their_order() -> None:
    assert ranking([{"eval_loss": loss} for loss in (0.5, 0.2, 0.5, 0.1)], (LOSS,), None) == [3, 1, 0, 2]
    assert ranking([], (LOSS, SIZE), BEST) == []


def test_losses_below_zero_and_missing_ones_have_a_bound_too() -> None:
    assert ranking(trials((-1.0, 9.0), (-0.995, 4.0), (-0.98, 1.0)), (LOSS, SIZE), BEST)[0] == 1
    assert ranking([{"adapter_mib": 2.0}, {"adapter_mib": 1.0}], (LOSS, SIZE), BEST)[0] == 1


def test_a_report_tells_each_goal_that_is_a_number() -> None:
    seconds = Metric(name="train_seconds")
    report = {"step": 5, "eval_loss": 0.5, "seconds": 7, "adapter_mib": None, "tokens": float("nan")}
    assert values_in(report, (LOSS, SIZE, seconds, TOKENS)) == {"eval_loss": 0.5, "train_seconds": 7.0}


def test_the_rule_is_said_in_words() -> None:
    assert rule_words((LOSS,), None) == "the least eval_loss"
    assert rule_words((LOSS, SIZE), None) == "the least eval_loss"
    words = "eval_loss within 1 % of the best, then the least adapter_mib, then the greatest tokens"
    assert rule_words((LOSS, SIZE, TOKENS), BEST) == words
