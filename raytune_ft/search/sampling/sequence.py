"""A sampler that hands out, one after another, configurations that were decided before the first trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from raytune_ft.search.sampling.precomputed import ENQUEUED, PrecomputedSampler

POSITION = "sequence:position"


class SequenceSampler(PrecomputedSampler):
    """Gives each trial the next position of a sequence, also after a restart.

    A trial that was enqueued takes no position; settings that its configuration leaves open are drawn at random.

    Args:
        at: Returns the configuration (key path -> value) at a position.
        seed: Seed of the random draws.
    """

    def __init__(self, at: Callable[[int], dict[str, Any]], seed: int) -> None:
        self._at, self._random = at, RandomSampler(seed=seed)
        self._next: int | None = None

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Stores the trial's position in the study, where a restarted driver finds it."""
        if ENQUEUED in trial.system_attrs or POSITION in trial.system_attrs:
            return
        if self._next is None:  # looked up once, as a study has one driver
            taken = [each.system_attrs.get(POSITION, -1) for each in study.get_trials(deepcopy=False)]
            self._next = max(taken, default=-1) + 1
        study._storage.set_trial_system_attr(trial._trial_id, POSITION, self._next)
        self._next += 1

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Returns the setting's value at the trial's position."""
        attributes = study._storage.get_trial(trial._trial_id).system_attrs
        if POSITION not in attributes:
            return self._random.sample_independent(study, trial, param_name, param_distribution)
        return self._at(attributes[POSITION])[param_name]
