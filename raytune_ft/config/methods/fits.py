"""Checks whether the workers' strategy fits the method."""

from __future__ import annotations

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.problems import Place, at
from raytune_ft.config.methods.choice import METHODS
from raytune_ft.config.possible import possible
from raytune_ft.errors import InputError


def check_method(experiment: Experiment, place: Place) -> None:
    """Raises InputError where a method of the trials was never tried with the workers' strategy."""
    for name in experiment.methods:
        tried = METHODS[name].strategies
        if others := [each for each in possible(experiment, "resources.strategy.type") if each not in tried]:
            what = f"{others[0]} was never tried with method {name}"
            raise InputError(at(place, "resources", "strategy"), what, f"use {' or '.join(tried)}, or another method")
