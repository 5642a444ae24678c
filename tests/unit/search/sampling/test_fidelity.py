"""What stopped and failed trials are worth beside whole ones, and the costs of one study on another's scale."""

from __future__ import annotations

import pytest

from raytune_ft.config.search.goals import Metric
from raytune_ft.search.sampling.fidelity import Peers, Whole, failed, violation
from raytune_ft.search.sampling.scale import lay

GOOD = Whole({5: 0.50, 15: 0.40, 45: 0.30}, 0.30)
FAIR = Whole({5: 0.60, 15: 0.52, 45: 0.48}, 0.48)
LATE = Whole({5: 0.90, 15: 0.60, 45: 0.35}, 0.35)


def test_a_stopped_trial_moves_on_as_the_median_whole_one_did() -> None:
    # From step 5 on the three lost 0.20, 0.12 and 0.55.
    assert Peers([GOOD, FAIR, LATE]).at_the_end({5: 0.95}) == pytest.approx(0.75)


def test_a_stopped_trial_is_not_better_than_a_whole_one_that_was_ahead_of_it() -> None:
    assert Peers([GOOD, FAIR, LATE]).at_the_end({5: 0.62}) == 0.48  # 0.42 by the median, but FAIR was at 0.60 then
    assert Peers([GOOD, FAIR, LATE]).at_the_end({5: 0.55, 15: 0.41}) == pytest.approx(
        0.31
    )  # GOOD was ahead, and lost 0.10


def test_without_whole_trials_the_last_value_stands() -> None:
    assert Peers([]).at_the_end({5: 0.7, 15: 0.6}) == 0.6
    assert Peers([Whole({15: 0.4}, 0.3)]).at_the_end({5: 0.7}) == 0.7, "nothing is known of step 5"


def test_a_whole_trial_that_did_not_report_at_the_step_counts_by_the_report_before() -> None:
    assert Peers([GOOD]).at_the_end({6: 1.0}) == pytest.approx(0.8)


def test_of_trials_with_ends_of_their_own_only_those_count_that_trained_on_and_up_to_the_stopped_ones_end() -> None:
    short = Whole({5: 0.50, 15: 0.45}, 0.45)
    peers = Peers([short, GOOD])
    assert peers.at_the_end({5: 0.95}) == pytest.approx(0.95 - 0.125)  # the two lost 0.05 and 0.20
    assert peers.at_the_end({5: 0.95, 15: 0.90}) == pytest.approx(0.80)  # the short one says nothing of step 15
    assert Peers([short]).at_the_end({5: 0.95, 15: 0.90}) == 0.90
    assert Peers([GOOD]).at_the_end({5: 0.95}, 15) == pytest.approx(0.85)  # it would have ended at step 15
    tokens = (Metric(name="eval_loss"), Metric(name="tokens"))
    last = {"eval_loss": 0.95, "tokens": 1000.0}
    assert Peers([GOOD]).costs_at_the_end({5: 0.95}, last, tokens, 15) == pytest.approx((0.85, 3000.0))


def test_what_grows_while_a_trial_trains_is_counted_to_the_end() -> None:
    goals = (Metric(name="eval_loss"), Metric(name="tokens"), Metric(name="adapter_mib", mode="max"))
    last = {"eval_loss": 0.95, "tokens": 1000.0, "adapter_mib": 4.0}
    assert Peers([GOOD, FAIR, LATE]).costs_at_the_end({5: 0.95}, last, goals) == pytest.approx((0.75, 9000.0, -4.0))
    assert Peers([GOOD]).costs_at_the_end({5: 0.95}, {"tokens": 1.0}, goals) is None


def test_a_failure_costs_more_than_anything_and_the_more_the_sooner_it_came() -> None:
    costs = [0.3, 0.5, 0.4]
    assert failed(costs, 0) == pytest.approx(0.7)
    assert 0.6 < failed(costs, 30) < failed(costs, 1) < failed(costs, 0)
    assert failed([0.4], 0) > 0.4 and failed([0.0], 0) > 0.0 and failed([], 1) < failed([], 0)
    assert 1.0 == violation(0) > violation(9) > 0.0


def test_costs_of_another_study_come_to_lie_best_on_best_and_median_on_median() -> None:
    theirs = [(2.0,), (3.0,), (4.0,), (5.0,), (6.0,)]
    own = [(0.1,), (0.2,), (0.3,), (0.4,), (0.5,)]
    assert [cost for (cost,) in lay(theirs, own)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert [cost for (cost,) in lay(theirs, own[:1])] == pytest.approx([0.1, 1.1, 2.1, 3.1, 4.1])
    assert [cost for (cost,) in lay(theirs, [])] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    assert lay([], own) == []


def test_each_goal_is_laid_by_itself() -> None:
    laid = lay([(1.0, 10.0), (2.0, 5.0), (3.0, 0.0)], [(0.0, 7.0)])
    assert laid == [(0.0, 17.0), (1.0, 12.0), (2.0, 7.0)]
