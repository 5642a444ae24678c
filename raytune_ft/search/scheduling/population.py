"""Population-based training in rounds: all trials train up to the next comparison, where the worst copy the best.

Read against ray 2.60's PopulationBasedTraining and PB2, whose exploit and explore these are. What differs: the trials
come from the study's searcher; a comparison waits for the whole population, but not for trials that ended; random draws
come from the experiment's seed; and a copy never has its donor's settings, as it would train to the same weights.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler
from ray.tune.schedulers.pb2 import PB2
from ray.tune.schedulers.pbt import _explore, _PBTTrialState
from sklearn.exceptions import ConvergenceWarning

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.scheduler_fit import mutable
from raytune_ft.config.search.schedulers import Pbt, Population
from raytune_ft.config.search.search import STEPS, Parameter, Search
from raytune_ft.search.study.searcher import COPIED, PARAMETERS, TRIAL

PERTURBATIONS: Any = (1.2, 0.8)


class _InRounds:
    """A mixin, to stand before Ray's class, that PBT and PB2 share: who trains, and when the worst copy the best."""

    _trial_state: dict[Any, Any]
    _metric: str

    def begin(self, space: dict[str, Parameter], steps: int, interval: int, quantile: float, seed: int) -> None:
        """Completes the construction; to be called once, after Ray's own constructor.

        Args:
            space: The settings that may change.
            steps: Length in steps of a trial whose parameters don't set it.
            interval: Steps between comparisons.
            quantile: The fraction of trials that count as the best, and as the worst.
            seed: Seed of all random draws.
        """
        self._space, self._steps, self._interval, self._quantile = space, steps, interval, quantile
        self._next_look = interval
        self._draw = random.Random(seed)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._trial_state[trial] = _PBTTrialState(trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if "step" not in result or result.get(self._metric) is None:
            return str(TrialScheduler.CONTINUE)
        step = int(result["step"])
        if step < self._next_look or step >= trial.config[PARAMETERS].get(STEPS, self._steps):
            return str(TrialScheduler.CONTINUE)
        self._save_trial_state(self._trial_state[trial], step, result, trial)  # type: ignore[attr-defined]
        return str(TrialScheduler.PAUSE)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Returns a new trial, else the paused one with the fewest steps; first compares, if all wait for that."""
        trials = tune_controller.get_trials()
        for trial in trials:
            if trial.status == Trial.PENDING:
                return trial
        paused = [trial for trial in trials if trial.status == Trial.PAUSED]
        # Tune has just asked the searcher, which gives a trial whenever none trains: so the population is complete.
        if paused and not any(trial.status == Trial.RUNNING for trial in trials):
            while not self._behind(paused):
                self._look(tune_controller, paused)
        return min(self._behind(paused), key=self._turn, default=None)

    def _behind(self, paused: list[Any]) -> list[Any]:
        return [trial for trial in paused if self._trial_state[trial].last_train_time < self._next_look]

    def _turn(self, trial: Any) -> tuple[int, bool, str]:
        """Returns the sort key of a trial's turn: one that has yet to copy goes before its donor.

        The donor, once it trains on, removes the checkpoint some reports later.
        """
        step = self._trial_state[trial].last_train_time
        return step, trial.config.get(COPIED, {}).get("step") != step, trial.config[TRIAL]

    def _look(self, tune_controller: Any, paused: list[Any]) -> None:
        """Has each of the worst trials copy one of the best; one that is ahead, as after a resume, takes no part."""
        after = self._next_look + self._interval
        here = [trial for trial in paused if self._trial_state[trial].last_train_time == self._next_look]
        here.sort(key=lambda trial: self._trial_state[trial].last_score)
        count = min(math.ceil(len(here) * self._quantile), len(here) // 2)
        for trial in here[:count]:
            donor = self._draw.choice(here[len(here) - count :])
            self._trial_state[donor].last_checkpoint = donor.checkpoint
            self._exploit(tune_controller, trial, donor)  # type: ignore[attr-defined]
            tune_controller.search_alg.searcher.on_copy(trial.trial_id, trial.config)
        self._next_look = after

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        donor = trial_to_clone.config
        with _draws_of(self._draw):
            explored, operations = self._explored(trial, trial_to_clone)
        explored = {key: _nearest(self._space[key], value) for key, value in explored.items()}
        if all(value == donor[PARAMETERS][key] for key, value in explored.items()):
            explored = {key: self._space[key].at(self._draw.random()) for key in explored}
        copied = {"trial": donor[TRIAL], "step": self._trial_state[trial_to_clone].last_train_time}
        config = {TRIAL: trial.config[TRIAL], PARAMETERS: {**donor[PARAMETERS], **explored}, COPIED: copied}
        return config, {PARAMETERS: operations}

    def _explored(self, trial: Any, donor: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        raise NotImplementedError


class PbtInRounds(_InRounds, PopulationBasedTraining):  # type: ignore[misc]
    """PBT: a copy gets its donor's settings, each perturbed a little or drawn anew."""

    def _explored(self, trial: Any, donor: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        samplers: Any = self._hyperparam_mutations[PARAMETERS]
        values = {key: value for key, value in donor.config[PARAMETERS].items() if key in samplers}
        mine = {key: samplers[key] for key in values}
        explored: tuple[dict[str, Any], dict[str, Any]] = _explore(
            values, mine, self._resample_probability, PERTURBATIONS, None
        )
        return explored


class Pb2InRounds(_InRounds, PB2):  # type: ignore[misc]
    """PB2: a copy gets the settings from which a Gaussian process expects the most up to the next comparison."""

    def _save_trial_state(self, state: Any, time: int, result: dict[str, Any], trial: Any) -> Any:
        return super()._save_trial_state(state, time, result, self._seen(trial))

    def _explored(self, trial: Any, donor: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale is not well determined by few points
            config, operations = PB2._get_new_config(self, self._seen(trial), self._seen(donor))
        return {key: _value(self._space[key], at) for key, at in config[PARAMETERS].items()}, operations

    def _seen(self, trial: Any) -> Any:
        parameters = trial.config[PARAMETERS]
        places = {key: _place(parameter, parameters[key]) for key, parameter in self._space.items()}
        return _Seen(trial.config[TRIAL], {PARAMETERS: places})


@dataclass(frozen=True)
class _Seen:
    """Stands for a trial in PB2: its name, and its settings, with log-uniform ones as logarithms."""

    name: str
    config: dict[str, Any]

    def __str__(self) -> str:
        return self.name


def make_population(scheduler: Population, experiment: Experiment, search: Search) -> PbtInRounds | Pb2InRounds:
    """Returns the scheduler over those settings of the space that trials may change while they train."""
    goal, interval, quantile = search.goals[0], scheduler.perturbation_interval, scheduler.quantile_fraction
    space = {key: search.space.parameters[key] for key in mutable(search)}
    common: dict[str, Any] = {
        "time_attr": "step",
        "metric": goal.name,
        "mode": goal.mode,
        "perturbation_interval": interval,
        "quantile_fraction": quantile,
        "log_config": False,
        "synch": True,  # else Ray's exploit step refuses paused trials
    }
    made: PbtInRounds | Pb2InRounds
    if isinstance(scheduler, Pbt):
        samplers = {key: _sampler(parameter) for key, parameter in space.items()}
        chance = scheduler.resample_probability
        made = PbtInRounds(hyperparam_mutations={PARAMETERS: samplers}, resample_probability=chance, **common)
    else:
        space = {key: parameter for key, parameter in space.items() if parameter.choice is None}
        bounds = {key: [_place(parameter, end) for end in parameter.extremes()] for key, parameter in space.items()}
        made = Pb2InRounds(hyperparam_bounds={PARAMETERS: bounds}, **common)
    made.begin(space, experiment.train.max_steps, interval, quantile, experiment.seed)
    return made


def _sampler(parameter: Parameter) -> Any:
    """Returns the parameter as Ray Tune's sampling domain, or a choice as the list of its values."""
    if parameter.choice is not None:
        return parameter.choice
    low, high = parameter.extremes()
    if parameter.loguniform:
        return tune.loguniform(low, high)
    return tune.randint(low, high + 1) if parameter.randint else tune.uniform(low, high)


def _nearest(parameter: Parameter, value: Any) -> Any:
    """Returns the value of the space that is nearest to `value`."""
    if parameter.choice is not None:
        return value
    low, high = parameter.extremes()
    return min(max(int(value) if parameter.randint else float(value), low), high)


def _place(parameter: Parameter, value: float) -> float:
    return math.log(value) if parameter.loguniform else float(value)


def _value(parameter: Parameter, place: float) -> float:
    return math.exp(place) if parameter.loguniform else place


@contextmanager
def _draws_of(draw: random.Random) -> Iterator[None]:
    """Seeds Python's and numpy's global generators, which Ray uses, from `draw`; restores them after the block."""
    before, before_numpy = random.getstate(), np.random.get_state()
    random.seed(draw.getrandbits(32))
    np.random.seed(draw.getrandbits(32))
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)
