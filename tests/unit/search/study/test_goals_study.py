"""A study with several goals: its curves, its values, and who can propose for it."""

from __future__ import annotations

import json

import pytest
from optuna.trial import TrialState

from raytune_ft.errors import RaytuneError
from raytune_ft.search.results.leaderboard import build_leaderboard, choose_winner
from raytune_ft.search.study.resume import interrupted_trials
from raytune_ft.search.study.searcher import PARAMETERS, StudySearcher
from raytune_ft.search.study.study import learning_curve, open_study
from raytune_ft.training.metrics_log import append_metrics, read_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind

GOALS = [{"name": "eval_loss"}, {"name": "adapter_mib"}, {"name": "train_seconds"}]


def report(step: int, loss: float | None, mib: float = 2.0) -> dict:
    return {
        "step": step,
        "eval_loss": loss,
        "adapter_mib": mib,
        "seconds": 1.5 * step,
        "checkpoint": f"step-{step:06d}",
    }


@pytest.fixture
def drive(make_experiment, run):
    """A searcher over the run's study; each trial ends as `kinds[name]` says, by default completed."""

    def make(wanted: int, kinds: dict[str, str] | None = None, **search):
        experiment = make_experiment(**{"metrics": GOALS, **search})
        study = open_study(experiment, experiment.search, run)

        def outcome_of(name: str, result: dict | None) -> Outcome:
            return Outcome(OutcomeKind((kinds or {}).get(name, "completed")), "", 0, (result or {}).get("eval_loss"))

        def curve_of(name: str) -> list[dict]:
            return read_metrics(run.trial(name).metrics)

        searcher = StudySearcher(
            study, experiment, experiment.search, wanted, interrupted_trials(study), outcome_of, curve_of=curve_of
        )
        return study, searcher

    return make


def test_a_completed_trial_has_all_values_and_a_pruned_one_its_curve_and_last_values(drive) -> None:
    study, searcher = drive(3, {"0001": "pruned", "0002": "diverged"})
    for name in "abc":
        searcher.suggest(name)
        searcher.on_trial_result(name, report(5, 0.9))
    searcher.on_trial_result("a", report(15, 0.6, 3.0))
    searcher.on_trial_complete("a", report(15, 0.6, 3.0))
    searcher.on_trial_complete("b", report(10, 0.8))
    searcher.on_trial_complete("c", None)
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert [trial.values for trial in trials] == [[0.6, 3.0, 22.5], None, None]
    assert [learning_curve(trial) for trial in trials] == [{5: 0.9, 15: 0.6}, {5: 0.9, 10: 0.8}, {5: 0.9}]
    assert trials[1].user_attrs["values"] == {"eval_loss": 0.8, "adapter_mib": 2.0, "train_seconds": 15.0}
    assert trials[0].user_attrs["curve"] == [[5, 0.9], [15, 0.6]]


def test_a_value_that_is_missing_at_the_end_is_no_completed_trial(drive) -> None:
    study, searcher = drive(2)
    for name in "ab":
        searcher.suggest(name)
    searcher.on_trial_complete("a", {"step": 15, "eval_loss": 0.5, "seconds": 3.0})
    searcher.on_trial_complete("b", report(15, float("nan")))
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.FAIL]


def test_a_resumed_search_goes_on_with_the_curve_and_takes_what_the_killed_driver_missed(drive, run) -> None:
    _, killed = drive(1)
    killed.suggest("t0")
    killed.on_trial_result("t0", report(5, 0.9))
    run.trial("0000").root.mkdir(parents=True)
    for step, loss in ((5, 0.9), (10, 0.8), (15, 0.7)):
        append_metrics(run.trial("0000").metrics, report(step, loss))

    study, resumed = drive(1)
    resumed.suggest("u0")
    resumed.on_trial_result("u0", report(15, 0.7))
    resumed.on_trial_complete("u0", report(15, 0.7))
    (trial,) = study.get_trials()
    assert learning_curve(trial) == {5: 0.9, 10: 0.8, 15: 0.7}
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [0.7, 2.0, 22.5])


@pytest.mark.parametrize("algorithm", ["tpe", "random", "quasi_random", "grid", "gp", "nsga2", "nsga3"])
def test_who_proposes_can_learn_from_completed_and_pruned_trials_with_several_goals(drive, algorithm) -> None:
    kinds = {"0000": "pruned", "0003": "pruned"}
    study, searcher = drive(6, kinds, algorithm={"type": algorithm, "seed": 1})
    drawn = []
    for name in "abcdef":
        drawn.append(parameters := searcher.suggest(name)[PARAMETERS])
        mib = parameters["method.r"] / 4
        searcher.on_trial_complete(name, report(15, 1 / mib + 100 * parameters["train.learning_rate"], mib))
    states = [trial.state for trial in study.get_trials()]
    assert (states.count(TrialState.COMPLETE), states.count(TrialState.PRUNED)) == (4, 2)
    assert len({str(each) for each in drawn}) == 6


@pytest.fixture
def three(make_experiment, run, ended):
    """Three trials: the best loss, one within 1 % of it and smaller, and a beaten one."""
    for name, loss, mib in (("0000", 0.300, 9.0), ("0001", 0.302, 2.0), ("0002", 0.4, 4.0), ("0003", 0.5, 1.0)):
        ended(name, "completed", {})
        append_metrics(run.trial(name).metrics, report(15, loss, mib))
        append_metrics(run.trial(name).metrics, report(45, loss + 0.1, mib))
        (run.trial(name).checkpoints / "step-000015").mkdir(parents=True)
    ended("0004", "failed", {})
    return lambda **search: make_experiment(metrics=GOALS[:2], **search)


def test_the_board_has_every_goal_at_the_checkpoint_that_counts_and_the_front(three, run) -> None:
    board = build_leaderboard(three(), run)
    assert [(row.rank, row.trial, row.front, row.step) for row in board] == [
        (1, "0000", True, 15),
        (2, "0001", True, 15),
        (3, "0003", True, 15),
        (4, "0002", False, 15),
        (None, "0004", False, 0),
    ]
    assert board[1].values == {"eval_loss": 0.302, "adapter_mib": 2.0} and board[4].values == {}
    written = json.loads(run.leaderboard.read_text())
    assert written["metrics"] == [{"name": "eval_loss", "mode": "min"}, {"name": "adapter_mib", "mode": "min"}]
    assert written["rule"] == "the least eval_loss" and written["rows"][0]["front"] is True


def test_the_rule_picks_the_winner_and_the_file_says_so(three, run) -> None:
    experiment = three(best="eval_loss within 1 %")
    board = build_leaderboard(experiment, run)
    assert [row.trial for row in board] == ["0001", "0000", "0003", "0002", "0004"]
    choose_winner(experiment, run, board, "f1n9er")
    winner = json.loads(run.winner.read_text())
    assert (winner["trial"], winner["value"]) == ("0001", 0.302)
    assert winner["values"] == {"eval_loss": 0.302, "adapter_mib": 2.0}
    assert winner["rule"] == "eval_loss within 1 % of the best, then the least adapter_mib"
    assert winner["adapter"] == "trials/0001/checkpoints/step-000015"


def test_without_any_value_nobody_wins_by_the_rule(make_experiment, run, ended) -> None:
    ended("0000", "failed", {})
    experiment = make_experiment(metrics=GOALS, best="eval_loss within 1 %")
    with pytest.raises(RaytuneError, match="none of 1 trials"):
        choose_winner(experiment, run, build_leaderboard(experiment, run), "f")
