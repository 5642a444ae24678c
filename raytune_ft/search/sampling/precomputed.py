"""The base class of samplers that know a trial's whole configuration before Optuna asks for its settings."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

ENQUEUED = "fixed_params"
"""Optuna's key of the trial attribute that holds the configuration with which a trial was enqueued."""


class PrecomputedSampler(BaseSampler):
    """A sampler that looks each setting up when it is asked for, in `sample_independent`."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns an empty space, so that Optuna asks for each setting alone."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Returns no values, as no settings are sampled together."""
        return {}
