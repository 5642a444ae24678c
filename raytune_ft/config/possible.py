"""The values that a setting may have over the trials of a study."""

from __future__ import annotations

from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.overrides import value_at


def possible(experiment: Experiment, key: str) -> list[Any]:
    """Returns the setting's value; if it is searched, the ends of its range or all of its choices.

    Where it is searched under a condition, trials that do not meet it have the experiment's own value, which is added.
    """
    own = value_at(experiment.model_dump(mode="json"), key)
    parameter = experiment.search.space.parameters.get(key) if experiment.search else None
    if parameter is None:
        return [own]
    return [*parameter.extremes(), *([own] if parameter.when else [])]
