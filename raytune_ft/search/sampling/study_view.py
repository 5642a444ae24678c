"""The view of a study that a sampler gets. In the storage a diverged trial is FAIL, and samplers ignore trials that
failed or were stopped: they would propose the same again. So they get a view in which such trials count."""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from raytune_ft.search.sampling.sampler_history import SamplerHistory


class ViewingSampler(BaseSampler):
    """Wraps a sampler, which then sees the trials that `SamplerHistory` shows; the study itself stays as it is.

    Args:
        sampler: The Optuna sampler.
        seen: The history that it is shown.
    """

    def __init__(self, sampler: BaseSampler, seen: SamplerHistory) -> None:
        self._sampler, self._seen = sampler, seen

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(StudyView(study, self._seen), self._seen.own(trial))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        view = StudyView(study, self._seen)
        proposed = self._sampler.sample_relative(view, self._seen.own(trial), search_space)
        if self._seen.genetic and proposed and len(proposed) == len(search_space):  # else some are random anyway
            tried = view.get_trials(deepcopy=False)
            if any(proposed.items() <= each.params.items() for each in tried):
                # A child often equals its parent, whose trial would teach nothing: one setting is drawn anew.
                proposed.pop(sorted(proposed)[trial.number % len(proposed)])
        return proposed

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        view = StudyView(study, self._seen)
        return self._sampler.sample_independent(view, self._seen.own(trial), param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(StudyView(study, self._seen), self._seen.own(trial))

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        shown = self._seen.without_constraints(self._seen.own(trial))
        self._sampler.after_trial(StudyView(study, self._seen), shown, state, values)


class StudyView(Study):
    """A study that returns the history's trials instead of its own; it reads and writes the same storage.

    `optuna.Study` fetches all trials through `_get_trials` (read against Optuna 5.0).
    """

    def __init__(self, study: Study, seen: SamplerHistory) -> None:
        self.__dict__.update(study.__dict__)  # also the trials cached for this one call of `ask`
        self._seen = seen

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = self._seen.trials(super()._get_trials(deepcopy=False, use_cache=use_cache))
        chosen = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen
