"""A sampler that proposes no configuration twice: training is deterministic, so a second trial of the same one teaches
nothing, and a trial of nearly the same one little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from raytune_ft.config.search.search import SearchSpace
from raytune_ft.search.sampling.attributes import OUTCOME_ATTRIBUTE
from raytune_ft.search.sampling.precomputed import ENQUEUED, PrecomputedSampler
from raytune_ft.search.sampling.space import suggest
from raytune_ft.training.outcome import OutcomeKind

NEAR = 0.02
"""Two numbers closer than this share of their range (of its logarithm, where that is the scale) are nearly the same: in
1e-4 to 5e-3, a factor of 1.08. A larger share would keep a search of one or two settings away from its optimum."""
MANY = 16
"""The number of trials beyond which the share shrinks in proportion."""
DRAWS = 16
"""How many times the sampler is asked for a new configuration."""
AT_RANDOM = 64
"""How many random ones are tried if the study holds all that the sampler proposed; then there may be no new one."""


class DeduplicatingSampler(PrecomputedSampler):
    """Draws whole configurations from another sampler until one is not yet in the study, nor nearly the same as one.

    Args:
        sampler: The sampler that proposes.
        space: The search space.
        defaults: The experiment's values, which decide the space's conditions on other settings.
        seed: Seed of the random draws.
    """

    def __init__(self, sampler: BaseSampler, space: SearchSpace, defaults: Mapping[str, Any], seed: int) -> None:
        self._sampler, self._space, self._defaults = sampler, space, defaults
        self._random = RandomSampler(seed=seed + 1)  # with the same seed, TPE would begin with the same draws
        self._drawn: tuple[int, dict[str, Any]] | None = None

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()
        self._random.reseed_rng()

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Returns the setting's value in the configuration that was drawn for the trial."""
        if self._drawn is None or self._drawn[0] != trial.number:
            self._drawn = trial.number, self._draw(study, trial)
        return self._drawn[1][param_name]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._sampler.after_trial(study, trial, state, values)

    def _draw(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        tried = [_tried(each) for each in study.get_trials(deepcopy=False) if each.number != trial.number]
        near = NEAR * min(1.0, MANY / max(1, len(tried)))
        first_new = None
        for _ in range(DRAWS):
            drawn = self._propose(self._sampler, study, trial)
            if not any(self._like(drawn, each, near) for each in tried):
                return drawn
            if first_new is None and drawn not in tried:
                first_new = drawn
        for _ in range(AT_RANDOM if first_new is None else 0):
            drawn = self._propose(self._random, study, trial)
            if drawn not in tried:
                return drawn
        return first_new or drawn

    def _propose(self, sampler: BaseSampler, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        draw: Any = _Draw(sampler, study, trial)
        return suggest(draw, self._space, self._defaults)

    def _like(self, one: Mapping[str, Any], other: Mapping[str, Any], near: float) -> bool:
        return one.keys() == other.keys() and all(
            one[key] == other[key] or self._space.parameters[key].distance(one[key], other[key]) < near for key in one
        )


def _tried(trial: FrozenTrial) -> Mapping[str, Any]:
    """Returns the trial's configuration, or {} where it failed for a reason that the configuration does not explain."""
    if trial.user_attrs.get(OUTCOME_ATTRIBUTE) == OutcomeKind.failed:
        return {}
    given: dict[str, Any] = trial.system_attrs.get(ENQUEUED, {})
    return trial.params or given


class _Draw:
    """Samples values as an Optuna trial does, without storing them in the study."""

    def __init__(self, sampler: BaseSampler, study: Study, trial: FrozenTrial) -> None:
        self._sampler, self._study, self._trial = sampler, study, trial
        space = sampler.infer_relative_search_space(study, trial)
        relative = sampler.sample_relative(study, trial, space)
        self._known = (
            relative | trial.system_attrs.get(ENQUEUED, {}) | trial.params
        )  # the trial may have been begun by a driver that was killed

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> Any:
        return self._value(name, FloatDistribution(low, high, log=log))

    def suggest_int(self, name: str, low: int, high: int) -> Any:
        return self._value(name, IntDistribution(low, high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._value(name, CategoricalDistribution(choices))

    def _value(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self._known:
            return self._known[name]
        if distribution.single():  # Optuna does not ask samplers for these
            return _only(distribution)
        return self._sampler.sample_independent(self._study, self._trial, name, distribution)


def _only(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low
