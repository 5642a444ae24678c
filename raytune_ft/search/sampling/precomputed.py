"""What samplers have in common that know a trial's whole configuration before its settings are asked for."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

ENQUEUED = "fixed_params"
"""Optuna's name, among a trial's attributes, for what it was enqueued with."""


class PrecomputedSampler(BaseSampler):
    """A sampler that looks each setting up when it is asked for, in `sample_independent`."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}
