"""The searcher, driven by hand as Ray Tune drives it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from raytune_ft.search.study.resume import interrupted_trials
from raytune_ft.search.study.searcher import PARAMETERS, TRIAL, StudySearcher
from raytune_ft.search.study.study import open_study
from raytune_ft.training.outcome import Outcome, OutcomeKind

FINISHED = str(Searcher.FINISHED)


@pytest.fixture
def drive(make_experiment, run) -> Callable[..., tuple]:
    """A study and a searcher over it; outcomes are `outcomes[name]`, else completed with the last result."""

    def make(wanted: int, outcomes: dict[str, str] | None = None, **search):
        experiment = make_experiment(**search)
        study = open_study(experiment, experiment.search, run)

        def outcome_of(name: str, result: dict | None) -> Outcome:
            kind = OutcomeKind((outcomes or {}).get(name, "completed"))
            return Outcome(kind, "", 0, (result or {}).get("eval_loss"))

        searcher = StudySearcher(study, experiment, experiment.search, wanted, interrupted_trials(study), outcome_of)
        return study, searcher

    return make


def test_each_suggestion_is_a_numbered_configuration_until_there_are_enough(drive) -> None:
    _, searcher = drive(3)
    suggestions = [searcher.suggest(f"tune-{index}") for index in range(5)]
    assert [each[TRIAL] for each in suggestions[:3]] == ["0000", "0001", "0002"]
    assert all(set(each[PARAMETERS]) == {"train.learning_rate", "method.r"} for each in suggestions[:3])
    assert suggestions[3:] == [None, None]  # a paused trial's process is kept while the search is not over
    for index in range(3):
        searcher.on_trial_complete(f"tune-{index}", {"eval_loss": 0.5})
    assert searcher.suggest("tune-5") == FINISHED


@pytest.mark.filterwarnings("error:The reported value is ignored")  # Optuna says so at each repeated step
def test_reports_and_ends_reach_the_study_and_nothing_stays_running(drive) -> None:
    study, searcher = drive(3, {"0001": "pruned", "0002": "failed"})
    for name in "abc":
        searcher.suggest(name)
    for step, loss in ((5, 0.9), (15, 0.6)):
        for name in "ab":
            searcher.on_trial_result(name, {"step": step, "eval_loss": loss, "training_iteration": 1})
    searcher.on_trial_result("a", {"step": 15, "eval_loss": 99.0})
    searcher.on_trial_complete("a", {"step": 15, "eval_loss": 0.6})
    searcher.on_trial_complete("b", {"step": 15, "eval_loss": 0.6})
    searcher.on_trial_complete("c", None, error=True)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert study.trials[0].intermediate_values == study.trials[1].intermediate_values == {5: 0.9, 15: 0.6}
    assert study.trials[0].value == 0.6


def test_a_result_without_a_metric_or_of_a_trial_that_is_over_is_no_report(drive) -> None:
    study, searcher = drive(1)
    searcher.suggest("a")
    searcher.on_trial_result("a", {"step": 5})
    searcher.on_trial_result("a", {"eval_loss": 0.5})
    searcher.on_trial_complete("a", {"eval_loss": 0.4})
    searcher.on_trial_result("a", {"step": 10, "eval_loss": 0.1})
    searcher.on_trial_complete("a", {"eval_loss": 0.1})
    searcher.on_trial_complete("stranger", {"eval_loss": 0.1})
    assert study.trials[0].intermediate_values == {} and study.trials[0].value == 0.4


def test_starting_points_come_first_in_their_order(drive) -> None:
    study, searcher = drive(3)
    for rank in (16, 4):
        study.enqueue_trial({"train.learning_rate": 1e-3, "method.r": rank})
    drawn = [searcher.suggest(f"t{index}")[PARAMETERS] for index in range(3)]
    assert drawn[0] == {"train.learning_rate": 1e-3, "method.r": 16}
    assert drawn[1] == {"train.learning_rate": 1e-3, "method.r": 4}
    assert drawn[2]["train.learning_rate"] != 1e-3


def test_trials_that_a_killed_driver_left_are_handed_out_first_as_they_were(drive) -> None:
    _, killed = drive(3)
    left = [killed.suggest(f"t{index}") for index in range(3)]
    killed.on_trial_result("t1", {"step": 5, "eval_loss": 0.8})
    killed.on_trial_complete("t0", {"eval_loss": 0.7})

    study, resumed = drive(3)
    again = [resumed.suggest(f"u{index}") for index in range(3)]
    assert again[:2] == left[1:]
    assert again[2][TRIAL] == "0003"
    resumed.on_trial_result("u0", {"step": 5, "eval_loss": 0.8})
    resumed.on_trial_result("u0", {"step": 15, "eval_loss": 0.6})
    for name in ("u0", "u1", "u2"):
        resumed.on_trial_complete(name, {"eval_loss": 0.5})
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4
    assert study.trials[1].intermediate_values == {5: 0.8, 15: 0.6}
    assert resumed.suggest("u3") == FINISHED


def test_a_searcher_is_not_restored_from_tunes_own_state(drive, tmp_path) -> None:
    _, searcher = drive(1)
    with pytest.raises(NotImplementedError, match="raytune-ft sweep --resume"):
        searcher.restore(str(tmp_path))


def test_the_report_at_which_the_scheduler_stops_a_trial_is_kept(drive) -> None:
    """Ray Tune gives it to on_trial_complete only."""
    study, searcher = drive(1, {"0000": "pruned"})
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"step": 5, "eval_loss": 0.9})
    assert study.trials[0].state == TrialState.PRUNED
    assert study.trials[0].intermediate_values == {5: 0.9}
    assert study.trials[0].value == 0.9


def test_no_trial_is_handed_out_while_none_is_wanted(drive) -> None:
    _, searcher = drive(2)
    searcher._may_start = lambda: False
    assert searcher.suggest("a") is None
    searcher._may_start = lambda: True
    assert searcher.suggest("a")[TRIAL] == "0000"
