"""Enqueues the configurations that a study tries before its sampler proposes any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.portfolio import first_configurations

if TYPE_CHECKING:
    import optuna


def enqueue_first(study: optuna.Study, experiment: Experiment) -> None:
    """Enqueues the space's starting points, then the portfolio's first configurations, each once.

    It may be called again: what a driver enqueued before it was killed stays as it is.
    """
    if experiment.search is None:
        return
    for configuration in first_configurations(experiment.search, experiment.model_dump(mode="json")):
        study.enqueue_trial(configuration, skip_if_exists=True)
