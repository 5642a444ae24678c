"""The greedy choice on tables small enough to do by hand, and what stands in for a configuration that was not run."""

from __future__ import annotations

import pytest

from raytune_ft.search.earlier_studies.coverage import (
    FAR,
    Axis,
    Choice,
    TrialRegret,
    cover,
    estimate,
    nearness,
    regrets,
)

RATE = Axis.over([1e-4, 1e-3, 1e-2], linear=False)
TABLE = [
    [0.0, 0.9, 0.8],  # takes 1.0 + 0.1 + 0.2 from the three ones that nobody serves yet
    [0.3, 0.3, 0.6],  # 0.7 + 0.7 + 0.4: the first
    [0.9, 0.0, 1.0],
    [1.0, 0.8, 0.1],  # then 0.5 from the third data set, the most that is left to take
    [0.4, 0.5, 0.6],
    [1.0, 1.0, 1.0],
]


def test_each_next_one_takes_away_most_of_what_the_ones_before_leave() -> None:
    chosen = cover(TABLE, 4)
    assert [choice.candidate for choice in chosen] == [1, 3, 0, 2]  # 0 and 2 both take 0.3; 0 has less regret in all
    assert [choice.helped for choice in chosen] == [0, 2, 0, 1]
    assert [choice.covered for choice in chosen] == pytest.approx([1.2 / 3, 0.7 / 3, 0.4 / 3, 0.1 / 3])


def test_when_nothing_is_left_to_cover_reserves_follow_and_the_worst_never_does() -> None:
    assert cover(TABLE, 9)[4:] == [Choice(4, pytest.approx(0.1 / 3), None)]
    assert cover([[1.0, 1.0]], 3) == cover([], 3) == []


def test_a_reserve_is_unlike_what_is_chosen_already() -> None:
    """The second is the first one's twin; the third has more regret, and fails where they do not."""
    table, twins = [[0.0], [0.1], [0.6]], {0, 1}
    chosen = cover(table, 3, lambda one, other: 1.0 if {one, other} == twins else 0.0)
    assert [choice.candidate for choice in chosen] == [0, 2, 1]
    assert [choice.candidate for choice in cover(table, 3)] == [0, 1, 2]


def test_nearness_goes_from_the_same_settings_to_half_of_an_axis() -> None:
    axes = {"rate": RATE}
    near = [nearness({"rate": 1e-4}, {"rate": other}, axes) for other in (1e-4, 10**-3.5, 1e-3, 1e-2)]
    assert near == pytest.approx([1.0, 0.5, 0.0, 0.0])


def test_the_single_best_is_not_first_where_it_serves_only_one_data_set() -> None:
    assert [choice.candidate for choice in cover([[0.0, 1.0], [0.2, 0.2]], 1)] == [1]


def test_a_gain_that_is_noise_does_not_count() -> None:
    """The second takes 0.002 away from one of two data sets; what is best but for the first comes before it."""
    table = [[0.002, 0.0], [0.0, 0.9], [0.2, 0.1]]
    assert [choice.candidate for choice in cover(table, 3)] == [0, 2, 1]


def test_regret_goes_from_the_best_to_the_median_and_no_further() -> None:
    assert regrets([1.0, 3.0, 2.0, 9.0, 5.0]) == [0.0, 1.0, 0.5, 1.0, 1.0]
    assert regrets([-0.9, -0.5, -0.7]) == pytest.approx([0.0, 1.0, 1.0])  # of a metric to be raised, turned round


def test_a_trial_that_did_not_run_to_its_end_has_all_the_regret_and_stands_at_the_worst_value() -> None:
    assert regrets([1.0, None, 3.0, None, 2.0]) == [0.0, 1.0, 1.0, 1.0, 0.5]
    assert regrets([2.0, None, None]) == [0.0, 1.0, 1.0]
    assert regrets([None, None]) == [1.0, 1.0]
    assert regrets([4.0, 4.0]) == [0.0, 0.0]


def test_distance_is_by_ratio_by_difference_or_by_being_another() -> None:
    assert RATE.between(1e-4, 1e-3) == pytest.approx(RATE.between(1e-3, 1e-2)) == pytest.approx(0.5)
    assert Axis.over([0, 5, 10], linear=False).between(0, 5) == 0.5
    assert Axis.over([1, 5, 9], linear=True).between(1, 5) == 0.5
    assert Axis.over([True, False], linear=False).between(True, False) == 1.0
    assert Axis.over(["a", 3], linear=False).between("a", 3) == 1.0
    assert Axis.over([7], linear=False).between(7, 7) == 0.0


def test_a_configuration_that_was_run_is_exact_and_repeats_are_averaged() -> None:
    points = [TrialRegret({"rate": 1e-3}, 0.2), TrialRegret({"rate": 1e-3}, 0.4), TrialRegret({"rate": 1e-4}, 1.0)]
    assert estimate({"rate": 1e-3}, points, {"rate": RATE}) == pytest.approx(0.3)


def test_one_that_was_not_run_is_the_mean_of_its_neighbours_and_of_the_unknown() -> None:
    """Neighbours at 0.25 and 0.25 weigh 16 each, the unknown 4, and the far one at 0.75 1.78."""
    points = [TrialRegret({"rate": 1e-3}, 0.1), TrialRegret({"rate": 1e-2}, 0.3), TrialRegret({"rate": 1e-4}, 0.5)]
    expected = (16 * 0.1 + 16 * 0.3 + 0.5 / 0.75**2 + 1 / FAR**2) / (32 + 1 / 0.75**2 + 1 / FAR**2)
    assert estimate({"rate": 10**-2.5}, points, {"rate": RATE}) == pytest.approx(expected)


def test_a_good_neighbour_promises_little_from_far_away() -> None:
    axes = {"rate": RATE, "rank": Axis.over([4, 32], linear=False)}
    point = [TrialRegret({"rate": 1e-4, "rank": 4}, 0.0)]
    near = estimate({"rate": 1.2e-4, "rank": 4}, point, axes)
    far = estimate({"rate": 1e-2, "rank": 32}, point, axes)
    assert near < 0.01 and far > 0.85
