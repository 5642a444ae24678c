"""The replayed searches: what a decision does to a trial, how tokens are counted, and what near means."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("benchmarks_are_importable")


@pytest.fixture
def curves():
    """Two rates at one rank and batch size: the low one ends at 0.2, the high one at 0.4; 100 tokens a report."""
    from quality.curves import BATCH, RANK, RATE, Curve, Curves, Report

    def curve(rate: float, last: float) -> Curve:
        losses = [last + 0.1 * (3 - index) for index in range(4)]
        reports = tuple(
            Report(5 * (index + 1), 100 * (index + 1), loss, float(index)) for index, loss in enumerate(losses)
        )
        return Curve({RATE: rate, RANK: 8, BATCH: 4}, "completed", reports)

    return Curves("toy", (curve(1e-3, 0.2), curve(1e-2, 0.4)))


class Listed:
    """Suggests these learning rates, and notes how each trial ended."""

    def __init__(self, *rates: float) -> None:
        self._rates, self.ended = list(rates), {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        from quality.curves import BATCH, RANK, RATE

        return {RATE: self._rates.pop(0), RANK: 8, BATCH: 4} if self._rates else None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """It has no model."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.ended[trial_id] = (result or {}).get("step")


def test_a_configuration_plays_the_curve_that_is_nearest_in_the_logarithm(curves) -> None:
    from quality.curves import BATCH, RANK, RATE

    assert curves.of({RATE: 3.1e-3, RANK: 8, BATCH: 4}).best == pytest.approx(0.2)
    assert curves.of({RATE: 3.3e-3, RANK: 8, BATCH: 4}).best == pytest.approx(0.4)
    assert curves.best == pytest.approx(0.2) and curves.full_tokens == 400


def test_a_trial_that_halving_stops_has_spent_the_tokens_up_to_its_rung(curves) -> None:
    from quality.simulate import Controller
    from ray.tune.schedulers import ASHAScheduler

    scheduler = ASHAScheduler(time_attr="step", metric="eval_loss", mode="min", grace_period=5, max_t=21)
    searcher = Listed(1e-3, 1e-2)
    spent = list(Controller(searcher, scheduler, curves).play(9))
    assert [each.tokens for each in spent] == [100, 200, 300, 400, 500]
    assert searcher.ended["t00001"] == 5 and spent[-1].trials == 2


def test_the_score_counts_until_a_report_within_one_per_cent_of_the_grids_best(curves) -> None:
    from quality.score import score
    from quality.simulate import Controller
    from ray.tune.schedulers import FIFOScheduler

    searched = Controller(Listed(*[1e-2] * 3, *[1e-3] * 30), FIFOScheduler(), curves).play(33)
    measured = score(curves, searched)
    assert measured.trials == 4 and measured.tokens == 4.0
    assert measured.regret == pytest.approx((1.0, 1.0, 0.0, 0.0))


def test_a_search_that_never_comes_near_counts_as_worse_than_any_other(curves) -> None:
    from quality.score import Score, summary

    scores = [Score(None, None, (1.0,) * 4), Score(3, 2.0, (0.0,) * 4), Score(None, None, (1.0,) * 4)]
    assert summary(scores)["tokens_to_1_percent"] is None and summary(scores)["reached"] == 1
    assert summary(scores[1:2])["tokens_to_1_percent"] == 2.0


@pytest.mark.parametrize("seed", [0, 1])
def test_our_sides_go_through_the_classes_that_a_sweep_uses_and_repeat_with_their_seed(curves, seed: int) -> None:
    from quality.sides import SIDES, play

    class Wide(type(curves)):  # every rank and batch size plays the same two curves
        def of(self, parameters):
            return super().of({**parameters, "method.r": 8, "train.per_device_train_batch_size": 4})

    wide = Wide("toy", curves.curves)
    first, again = (
        [next(search) for _ in range(40)] for search in (play(wide, SIDES["tpe + asha"], seed) for _ in "ab")
    )
    assert first == again and first[-1].trials == 10


def test_a_search_is_replayed_over_a_whole_grid() -> None:
    from quality.curves import BATCH, RANK, RATE, load, names

    recorded = {name: load(name) for name in names()}
    assert recorded["movies"].whole
    for curves in recorded.values():
        reports = [each.reports[-1].step for each in curves.curves if each.outcome == "completed"]
        assert set(reports) == {60} and {each.outcome for each in curves.curves} <= {"completed", "diverged"}
        axes = [{each.parameters[key] for each in curves.curves} for key in (RATE, RANK, BATCH)]
        assert [len(axis) for axis in axes] == [5, 4, 3] or not curves.whole


def test_a_portfolio_begins_with_the_best_of_the_other_data_and_goes_on_with_others(curves) -> None:
    from quality.curves import RATE
    from quality.elsewhere import build

    assert [each[RATE] for each in build([curves])] == [1e-3]  # the other one is the worst: no help anywhere
