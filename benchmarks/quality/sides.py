"""Our search, as an experiment file would set it, over recorded curves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from quality.curves import Curves
from quality.simulate import Controller, Spent
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import load_experiment
from raytune_ft.search.samplers import make_sampler
from raytune_ft.search.schedulers import make_scheduler
from raytune_ft.search.searcher import StudySearcher
from raytune_ft.training.outcome import Outcome, OutcomeKind

GRID = Path(__file__).parent / "grid.yaml"
ASHA = {"type": "asha", "grace_period": 5, "reduction_factor": 3}
FULL: dict[str, Any] = {"type": "none"}
MOST_TRIALS = 400

SIDES: dict[str, dict[str, Any]] = {
    "random": {"algorithm": {"type": "random"}, "scheduler": FULL},
    "grid": {"algorithm": {"type": "grid", "points": 5}, "scheduler": FULL},
    "tpe": {"algorithm": {"type": "tpe"}, "scheduler": FULL},
    "gp": {"algorithm": {"type": "gp"}, "scheduler": FULL},
    "tpe + asha": {"algorithm": {"type": "tpe"}, "scheduler": ASHA},
    "gp + asha": {"algorithm": {"type": "gp"}, "scheduler": ASHA},
    "bohb": {"algorithm": {"type": "tpe"}, "scheduler": {**ASHA, "type": "bohb"}},
    "portfolio + tpe + asha": {"algorithm": {"type": "portfolio"}, "scheduler": ASHA},
}
"""What is compared: name -> settings of `search`. A portfolio is always another data set's."""


def play(curves: Curves, settings: dict[str, Any], seed: int) -> Iterator[Spent]:
    """One search from its first trial on, through the classes that a sweep uses."""
    trials = 60 if settings["algorithm"]["type"] == "grid" else MOST_TRIALS
    experiment = _experiment({**settings, "algorithm": {**settings["algorithm"], "seed": seed}, "trials": trials})
    search = experiment.search
    assert search is not None
    study = optuna.create_study(sampler=make_sampler(search, experiment, 0))
    trials_by_name: dict[str, Any] = {}
    searcher = StudySearcher(study, experiment, search, trials, [], partial(_outcome, trials_by_name, experiment))
    controller = Controller(searcher, make_scheduler(experiment, search), curves, trials_by_name)
    return controller.play(trials)


def _experiment(search: dict[str, Any]) -> Experiment:
    experiment = load_experiment(GRID)
    assert experiment.search is not None
    values = {**experiment.search.model_dump(exclude_unset=True), **search}
    return Experiment.model_validate({**experiment.model_dump(exclude_unset=True), "search": values})


def _outcome(trials: dict[str, Any], experiment: Experiment, name: str, result: dict[str, Any] | None) -> Outcome:
    trial = trials[name]
    step, value = int((result or {}).get("step", 0)), (result or {}).get("eval_loss")
    if trial.curve.outcome == "diverged" and trial.played == len(trial.curve.reports):
        return Outcome(OutcomeKind.diverged, "", step, value)
    ended = step >= experiment.train.max_steps
    return Outcome(OutcomeKind.completed if ended else OutcomeKind.pruned, "", step, value)
