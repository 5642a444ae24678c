"""Our search, as an experiment file would set it, over recorded curves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import optuna

from quality.curves import Curves
from quality.elsewhere import elsewhere
from quality.simulate import Controller, Spent
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import load_experiment
from raytune_ft.config.search.algorithms import Tpe
from raytune_ft.config.search.search import Search
from raytune_ft.search.earlier_studies.portfolio import enqueue_first
from raytune_ft.search.sampling.samplers import make_sampler
from raytune_ft.search.scheduling.pace import Pace
from raytune_ft.search.scheduling.schedulers import make_scheduler
from raytune_ft.search.study.searcher import StudySearcher
from raytune_ft.training.outcome import Outcome, OutcomeKind

GRID = Path(__file__).parent / "grid.yaml"
ASHA = {"type": "asha", "grace_period": 40, "reduction_factor": 3}
"""As `raytune-ft init` writes it. At step 20 the curves' ranks tell little of their ends (Spearman's rho is 0.52 on
movies, 0.49 on products), at step 40 more (0.80 and 0.64)."""
BOHB = {"type": "bohb", "grace_period": 20, "reduction_factor": 3}
"""Its rungs are `max_steps` / 3 and so on: with a first one from step 40 on it would stop nobody."""
FULL: dict[str, Any] = {"type": "none"}
MOST_TRIALS = 400

PORTFOLIO: dict[str, Any] = {"type": "portfolio", "first": 4}

SIDES: dict[str, dict[str, Any]] = {
    "random": {"algorithm": {"type": "random"}, "scheduler": FULL},
    "grid": {"algorithm": {"type": "grid", "points": 5}, "scheduler": FULL},
    "tpe": {"algorithm": {"type": "tpe"}, "scheduler": FULL},
    "gp": {"algorithm": {"type": "gp"}, "scheduler": FULL},
    "tpe + asha": {"algorithm": {"type": "tpe"}, "scheduler": ASHA},
    "gp + asha": {"algorithm": {"type": "gp"}, "scheduler": ASHA},
    "bohb": {"algorithm": {"type": "tpe"}, "scheduler": BOHB},
    "portfolio + tpe + asha": {"algorithm": PORTFOLIO, "scheduler": ASHA},
}
"""What is compared: name -> settings of `search`; `play` gives a portfolio the other data sets' configurations."""


def play(curves: Curves, settings: dict[str, Any], seed: int) -> Iterator[Spent]:
    """One search from its first trial on, through the classes that a sweep uses."""
    trials = len(curves.curves) if settings["algorithm"]["type"] == "grid" else MOST_TRIALS
    experiment = _experiment(
        {**settings, "algorithm": _algorithm(curves, settings["algorithm"], seed), "trials": trials}
    )
    search = experiment.search
    assert search is not None
    study = optuna.create_study(sampler=make_sampler(search, experiment, 0))
    enqueue_first(study, experiment)
    named: dict[str, Any] = {}
    scheduler = Pace(make_scheduler(experiment, search), 1)
    searcher = StudySearcher(
        study, experiment, search, trials, [], partial(_outcome, named, experiment), partial(scheduler.may_start, 1)
    )
    return Controller(searcher, scheduler, curves, named).play(trials)


def _algorithm(curves: Curves, algorithm: dict[str, Any], seed: int) -> dict[str, Any]:
    if algorithm["type"] == "portfolio":
        return {
            **algorithm,
            "configurations": elsewhere(curves.name),
            "then": {**Tpe(n_startup_trials=0, seed=seed).model_dump()},
        }
    return {**algorithm, "seed": seed}


def grid_search() -> Search:
    """The search that recorded the grid."""
    search = _grid().search
    assert search is not None
    return search


@cache
def _grid() -> Experiment:
    return load_experiment(GRID)


def _experiment(search: dict[str, Any]) -> Experiment:
    experiment = _grid()
    values = {**grid_search().model_dump(exclude_unset=True), **search}
    return Experiment.model_validate({**experiment.model_dump(exclude_unset=True), "search": values})


def _outcome(trials: dict[str, Any], experiment: Experiment, name: str, result: dict[str, Any] | None) -> Outcome:
    trial = trials[name]
    step, value = int((result or {}).get("step", 0)), (result or {}).get("eval_loss")
    if trial.curve.outcome == "diverged" and trial.played == len(trial.curve.reports):
        return Outcome(OutcomeKind.diverged, "", step, value)
    ended = step >= experiment.train.max_steps
    return Outcome(OutcomeKind.completed if ended else OutcomeKind.pruned, "", step, value)
