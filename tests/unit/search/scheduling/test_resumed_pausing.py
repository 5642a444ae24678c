"""Trials that a new driver goes on with, among those of schedulers that pause: they are compared at like steps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import optuna
from ray.tune.experiment import Trial

from raytune_ft.search.scheduling.replay import replay
from raytune_ft.search.scheduling.schedulers import make_scheduler

HYPERBAND = {"type": "hyperband", "grace_period": 5, "reduction_factor": 3}
PBT = {"type": "pbt", "perturbation_interval": 15}
RATE = "train.learning_rate"
RANGE = {"parameters": {RATE: {"loguniform": [1e-4, 1e-2]}}}


class PausedTrials:
    """Ray Tune's controller whose trials all wait; `at` is each one's step and loss there."""

    def __init__(self, scheduler: Any, at: dict[str, tuple[int, float]], make_trial: Any) -> None:
        self._scheduler, self.stopped = scheduler, list[str]()
        self.trials: list[Any] = []
        self.search_alg = SimpleNamespace(searcher=SimpleNamespace(on_copy=lambda trial, config: None))
        for name, (step, loss) in at.items():
            trial = make_trial(f"id-{name}", {"trial": name, "parameters": {"train.learning_rate": 1e-3}})
            trial.step = step
            scheduler.on_trial_add(self, trial)
            assert scheduler.on_trial_result(self, trial, {"step": step, "eval_loss": loss}) == "PAUSE"
            trial.save()
            trial.status = Trial.PAUSED
            self.trials.append(trial)

    def get_trials(self) -> list[Any]:
        return self.trials

    def stop_trial(self, trial: Any) -> None:
        self.stopped.append(trial.name)
        trial.status = Trial.TERMINATED
        self._scheduler.on_trial_remove(self, trial)


def test_a_resumed_trial_that_is_ahead_is_compared_in_its_bracket_by_what_it_had_at_the_rung(
    make_experiment, simulated_trial, quiet
) -> None:
    """The worst of nine at step 5 went on alone before; its loss of step 15 is the best of all, and says nothing."""
    experiment, study = make_experiment(scheduler=HYPERBAND, trials=9), optuna.create_study()
    trial = study.ask()
    for step, loss in ((5, 9.0), (15, 0.1)):
        trial.report(loss, step)
    scheduler = make_scheduler(experiment, experiment.search)
    replay(scheduler, experiment.search, study.trials)
    at = {"0000": (15, 0.1)}  # a lane repeats its last report
    at |= {f"{number:04d}": (5, float(number)) for number in range(1, 9)}
    controller = PausedTrials(scheduler, at, simulated_trial)
    goes_on = scheduler.choose_trial_to_run(controller)
    assert goes_on.name in ("0001", "0002", "0003")
    assert sorted(controller.stopped) == ["0000", *(f"{number:04d}" for number in range(4, 9))]


def test_a_resumed_trial_between_two_looks_neither_copies_nor_is_copied(make_experiment, simulated_trial) -> None:
    experiment = make_experiment(scheduler=PBT, trials=4, space=RANGE)
    scheduler = make_scheduler(experiment, experiment.search)
    at = {"0000": (15, 3.0), "0001": (20, 9.0), "0002": (15, 1.0), "0003": (20, 0.1)}
    controller = PausedTrials(scheduler, at, simulated_trial)
    assert scheduler.choose_trial_to_run(controller) is not None
    changed = {trial.name: trial.config for trial in controller.trials if trial.config["parameters"] != {RATE: 1e-3}}
    assert changed.keys() == {"0000"}
    assert changed["0000"]["copied"] == {"trial": "0002", "step": 15}
