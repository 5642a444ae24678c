"""Prepares an experiment's data with the encoder of its objective."""

from __future__ import annotations

from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.data.prepare import prepare_with
from raytune_ft.data.prepared import PreparedData
from raytune_ft.objectives.custom import remember
from raytune_ft.objectives.rooms import room


def prepare(experiment: Experiment, target: Path, *, in_use: bool = False) -> PreparedData:
    """Encodes all splits into `target`, as `data.prepare.prepare_with` says, for the experiment's objective.

    Where the objective trains on no rows, what its trainer reads is remembered instead.
    """
    if not experiment.trains_on_rows:
        return remember(experiment, target, in_use=in_use)
    return prepare_with(room(experiment.objective).encoder, experiment, target, in_use=in_use)
