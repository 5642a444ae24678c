"""A driver that dies anywhere between two words to the study (fault 4), and what is never tried twice (fault 11)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from raytune_ft.config.experiment import Experiment
from raytune_ft.paths import RunDirectory
from raytune_ft.search.study.resume import interrupted_trials
from raytune_ft.search.study.searcher import PARAMETERS, TRIAL, StudySearcher
from raytune_ft.search.study.study import open_study, trial_name
from raytune_ft.training.metrics_log import append_metrics, read_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind

WANTED = 6
STEPS = (5, 15, 45)
STATES = {
    OutcomeKind.completed: TrialState.COMPLETE,
    OutcomeKind.pruned: TrialState.PRUNED,
    OutcomeKind.diverged: TrialState.FAIL,
    OutcomeKind.out_of_memory: TrialState.FAIL,
}


class Killed(BaseException):
    """Ends a driver at once."""


class Driver:
    """What Ray Tune, a lane and the sweep do with the searcher, with a place to die before each thing."""

    def __init__(self, experiment: Experiment, run: RunDirectory, lives: int) -> None:
        self._run, self._lives = run, lives
        self._study = open_study(experiment, experiment.search, run)
        trials = self._study.get_trials(deepcopy=False)
        left = WANTED - sum(trial.state.is_finished() for trial in trials)
        interrupted = interrupted_trials(self._study)
        names = {trial_name(trial.number) for trial in interrupted}

        def curve_of(name: str) -> list[dict[str, Any]]:
            return read_metrics(run.trial(name).metrics) if name in names else []

        self._searcher = StudySearcher(
            self._study, experiment, experiment.search, left, interrupted, self._outcome_of, curve_of=curve_of
        )
        self.handed_out: list[tuple[str, str]] = []

    def _may_die(self) -> None:
        self._lives -= 1
        if self._lives < 0:
            raise Killed

    def _outcome_of(self, name: str, result: dict[str, Any] | None) -> Outcome:
        self._may_die()
        outcome = Outcome.read(self._run.trial(name))
        assert outcome is not None
        return outcome

    def search(self) -> None:
        """To the end, or to its death."""
        for number in range(WANTED):
            self._may_die()
            given = self._searcher.suggest(str(number))
            if not isinstance(given, dict):
                return
            self._may_die()
            self.handed_out.append((given[TRIAL], str(given[PARAMETERS])))
            self._train(given[TRIAL], str(number))

    def _train(self, name: str, tune_id: str) -> None:
        trial, kind = self._run.trial(name), list(STATES)[int(name) % len(STATES)]
        trial.root.mkdir(parents=True, exist_ok=True)
        steps = STEPS if kind is OutcomeKind.completed else STEPS[:2]
        for step in steps if Outcome.read(trial) is None else ():
            report = {"step": step, "eval_loss": 1.0 / step, "checkpoint": "there"}
            if step not in [each["step"] for each in read_metrics(trial.metrics)]:
                append_metrics(trial.metrics, report)
            self._may_die()
            self._searcher.on_trial_result(tune_id, report)
        Outcome(kind, "as it should", steps[-1], 1.0 / steps[-1]).write(trial)
        self._may_die()
        self._searcher.on_trial_complete(tune_id, {})


@pytest.mark.parametrize("seed", range(5))
def test_fault_4_wherever_a_driver_dies_the_study_ends_with_the_asked_trials_none_twice_and_none_running(
    make_experiment: Callable[..., Experiment], run: RunDirectory, seed: int
) -> None:
    experiment, draw = make_experiment(algorithm={"type": "random", "seed": seed}), random.Random(seed)
    configurations: dict[str, set[str]] = {}
    for _ in range(3):
        driver = Driver(experiment, run, draw.randrange(1, 25))
        with pytest.raises(Killed):
            driver.search()
            raise Killed
        for name, parameters in driver.handed_out:
            configurations.setdefault(name, set()).add(parameters)
    Driver(experiment, run, 10**9).search()
    trials = open_study(experiment, experiment.search, run).trials
    assert [trial.number for trial in trials] == list(range(WANTED))
    assert all(len(each) == 1 for each in configurations.values())  # the same number is always the same configuration
    assert len({trial.params["train.learning_rate"] for trial in trials}) == WANTED
    for trial in trials:
        kind = list(STATES)[trial.number % len(STATES)]
        assert trial.state is STATES[kind]
        steps = STEPS if kind is OutcomeKind.completed else STEPS[:2]
        assert trial.intermediate_values == {step: 1.0 / step for step in steps}  # the whole curve
        assert trial.user_attrs["outcome"] == str(kind)


def test_fault_11_a_trial_that_ran_out_of_memory_is_never_handed_out_again(
    make_experiment: Callable[..., Experiment], run: RunDirectory
) -> None:
    experiment = make_experiment(algorithm={"type": "random"})
    with pytest.raises(Killed):
        driver = Driver(experiment, run, 10**9)
        driver.search()
        raise Killed
    again = Driver(experiment, run, 10**9)
    again.search()
    assert not again.handed_out
    study = open_study(experiment, experiment.search, run)
    assert study.trials[3].user_attrs["outcome"] == "out_of_memory" and study.trials[3].state is TrialState.FAIL


def test_fault_10_a_reported_nan_is_a_failure_and_no_point_of_the_curve(
    make_experiment: Callable[..., Experiment], run: RunDirectory
) -> None:
    experiment = make_experiment()
    study = open_study(experiment, experiment.search, run)
    ended = Outcome(OutcomeKind.diverged, "training loss is nan at step 7", 7)
    searcher = StudySearcher(study, experiment, experiment.search, 1, [], lambda name, result: ended)
    searcher.suggest("a")
    searcher.on_trial_result("a", {"step": 5, "eval_loss": 0.5})
    searcher.on_trial_result("a", {"step": 7, "eval_loss": float("nan")})
    searcher.on_trial_complete("a", {"step": 7, "eval_loss": float("nan")})
    assert study.trials[0].state is TrialState.FAIL and study.trials[0].intermediate_values == {5: 0.5}


@pytest.mark.parametrize("algorithm", ["tpe", "grid"])  # of the others, tests/unit/search/sampling/test_samplers.py
def test_the_same_seed_hands_out_the_same_configurations(
    make_experiment: Callable[..., Experiment], tmp_path: Path, algorithm: str
) -> None:
    handed_out = []
    for root in ("one", "two"):
        experiment = make_experiment(algorithm={"type": algorithm, "seed": 7})
        driver = Driver(experiment, RunDirectory(tmp_path / root), 10**9)
        driver.search()
        handed_out.append(driver.handed_out)
    assert handed_out[0] == handed_out[1] and len(handed_out[0]) == WANTED
