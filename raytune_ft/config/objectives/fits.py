"""Checks whether data, metrics and search fit the objective."""

from __future__ import annotations

from collections.abc import Callable

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.problems import Place, at
from raytune_ft.config.objectives.custom_fits import check_custom
from raytune_ft.config.objectives.dpo_fits import check_dpo
from raytune_ft.errors import InputError

_OF_ITS_OWN: dict[str, Callable[[Experiment, Place], None]] = {"custom": check_custom, "dpo": check_dpo}
"""What only some objectives have to check."""
_WORDS = {"answer": "one answer", "preference": "a chosen and a rejected answer"}


def check_objective(experiment: Experiment, place: Place) -> None:
    """Raises InputError where the objective does not take the rows or the metrics, or would not read a setting."""
    objective = experiment.objective
    if objective.rows is not None:
        _check_rows(experiment, place)
    if objective.type in _OF_ITS_OWN:
        _OF_ITS_OWN[objective.type](experiment, place)


def _check_rows(experiment: Experiment, place: Place) -> None:
    objective, given = experiment.objective, experiment.data.format
    if given.rows != objective.rows:
        fitting = " or ".join(each for each in type(given) if each.rows == objective.rows)
        wanted = _WORDS[objective.rows or given.rows]
        what = f"{given} has rows with {_WORDS[given.rows]}, and objective {objective.type} takes rows with {wanted}"
        raise InputError(at(place, "data", "format"), what, f"use {fitting}, or another objective.type")
    for metric in experiment.evaluate.metrics:
        if metric not in objective.row_metrics:
            what = f"{metric} can't be made of the rows of objective {objective.type}"
            raise InputError(at(place, "evaluate", "metrics"), what, f"use {', '.join(objective.row_metrics)}")
