"""A sampler that tries nothing twice: training is deterministic, so a configuration's second trial teaches nothing, and
that of nearly the same one little."""

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
"""Two numbers closer than this share of their range, in its own scale, are nearly the same: a factor of 1.08 from 1e-4
to 5e-3. A larger one would keep a search of one or two settings from where it is best."""
MANY = 16
"""Beyond so many trials the share shrinks with their number."""
DRAWS = 16
"""So often the sampler is asked."""
AT_RANDOM = 64
"""So often chance is, where all that the sampler proposed is what the study holds; then there may be nothing else."""


class DeduplicatingSampler(PrecomputedSampler):
    """Draws whole configurations of another sampler until one is none that the study holds.

    Args:
        sampler: Who proposes.
        space: What is searched.
        defaults: The experiment's values, for conditions.
        seed: Decides what is drawn at random.
    """

    def __init__(self, sampler: BaseSampler, space: SearchSpace, defaults: Mapping[str, Any], seed: int) -> None:
        self._sampler, self._space, self._defaults = sampler, space, defaults
        self._random = RandomSampler(seed=seed + 1)  # by its own seed TPE begins with the same draws
        self._drawn: tuple[int, dict[str, Any]] | None = None

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()
        self._random.reseed_rng()

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The setting's value in the configuration that was drawn for the trial."""
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
    """Its configuration, nothing where it failed for a reason of its own."""
    if trial.user_attrs.get(OUTCOME_ATTRIBUTE) == OutcomeKind.failed:
        return {}
    given: dict[str, Any] = trial.system_attrs.get(ENQUEUED, {})
    return trial.params or given


class _Draw:
    """What Optuna's trial does when it is asked for a value, without writing it down."""

    def __init__(self, sampler: BaseSampler, study: Study, trial: FrozenTrial) -> None:
        self._sampler, self._study, self._trial = sampler, study, trial
        space = sampler.infer_relative_search_space(study, trial)
        relative = sampler.sample_relative(study, trial, space)
        self._known = (
            relative | trial.system_attrs.get(ENQUEUED, {}) | trial.params
        )  # begun by a driver that was killed

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> Any:
        return self._value(name, FloatDistribution(low, high, log=log))

    def suggest_int(self, name: str, low: int, high: int) -> Any:
        return self._value(name, IntDistribution(low, high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._value(name, CategoricalDistribution(choices))

    def _value(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self._known:
            return self._known[name]
        if distribution.single():  # samplers are not asked for these
            return _only(distribution)
        return self._sampler.sample_independent(self._study, self._trial, name, distribution)


def _only(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low
