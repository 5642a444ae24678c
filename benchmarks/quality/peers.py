"""The same search with what Optuna's and Ray Tune's own pages show, over the same curves and space."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from quality.curves import BATCH, RANK, RATE, Curve, Curves
from quality.sides import ASHA, MOST_TRIALS, grid_search
from quality.simulate import Controller, Spent

_EXTREMES = {key: parameter.extremes() for key, parameter in grid_search().space.parameters.items()}
(LOW, HIGH), RANKS, BATCHES = (_EXTREMES[key] for key in (RATE, RANK, BATCH))
GRACE, FACTOR = ASHA["grace_period"], ASHA["reduction_factor"]


def optuna_tpe(curves: Curves, seed: int) -> Iterator[Spent]:
    """`study.optimize` with the default sampler, every trial to its last step."""
    return _optimize(curves, optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed)), prune=False)


def optuna_pruned(curves: Curves, seed: int) -> Iterator[Spent]:
    """The same with `report` and `should_prune`, by Optuna's successive halving with our rungs."""
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=GRACE, reduction_factor=FACTOR)
    return _optimize(
        curves, optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner), prune=True
    )


def _optimize(curves: Curves, study: optuna.Study, *, prune: bool) -> Iterator[Spent]:
    tokens, best = 0, math.inf
    for number in range(1, MOST_TRIALS + 1):
        trial = study.ask()
        parameters = {
            RATE: trial.suggest_float(RATE, LOW, HIGH, log=True),
            RANK: trial.suggest_categorical(RANK, RANKS),
            BATCH: trial.suggest_categorical(BATCH, BATCHES),
        }
        curve, value, before, pruned = curves.of(parameters), math.nan, 0, False
        for report in curve.reports:
            tokens, before = tokens + report.tokens - before, report.tokens
            value = math.nan if report.eval_loss is None else report.eval_loss
            best = min(best, math.inf if report.eval_loss is None else report.eval_loss)
            yield Spent(number, tokens, best)
            if prune and report.eval_loss is not None:
                trial.report(value, report.step)
                if pruned := trial.should_prune():
                    break
        _tell(study, trial, curve, value, pruned=pruned)


def _tell(study: optuna.Study, trial: optuna.Trial, curve: Curve, value: float, *, pruned: bool) -> None:
    if pruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    elif math.isnan(value) or curve.outcome == "diverged":
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, value)


def ray_random_asha(curves: Curves, seed: int) -> Iterator[Spent]:
    """Ray Tune without a searcher, and ASHA with our rungs."""
    return _tune(curves, Draws(seed))


def ray_optuna_asha(curves: Curves, seed: int) -> Iterator[Spent]:
    """Ray Tune's OptunaSearch, and ASHA with our rungs."""
    space = {
        RATE: FloatDistribution(LOW, HIGH, log=True),
        RANK: CategoricalDistribution(RANKS),
        BATCH: CategoricalDistribution(BATCHES),
    }
    return _tune(curves, OptunaSearch(space, metric="eval_loss", mode="min", seed=seed))


def _tune(curves: Curves, searcher: Any) -> Iterator[Spent]:
    scheduler = ASHAScheduler(
        time_attr="step", metric="eval_loss", mode="min", grace_period=GRACE, reduction_factor=FACTOR, max_t=61
    )
    return Controller(searcher, scheduler, curves).play(MOST_TRIALS)


class Draws:
    """What Ray Tune does when no searcher is given: independent draws."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        rate = math.exp(self._random.uniform(math.log(LOW), math.log(HIGH)))
        return {RATE: rate, RANK: self._random.choice(RANKS), BATCH: self._random.choice(BATCHES)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Draws do not learn."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Draws do not learn."""


PEERS = {
    "Optuna TPE": optuna_tpe,
    "Optuna TPE + halving": optuna_pruned,
    "Ray Tune random + ASHA": ray_random_asha,
    "Ray Tune OptunaSearch + ASHA": ray_optuna_asha,
}
