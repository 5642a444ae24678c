"""Checks of `objective: {type: dpo}` that concern more than one setting, over all trials of a study."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.problems import Place, at
from raytune_ft.config.objectives.dpo import NEED_SMOOTHING, SMOOTHED
from raytune_ft.config.possible import possible
from raytune_ft.config.target_modules import names
from raytune_ft.errors import InputError

_LOSS, _SMOOTHING = "objective.loss_type", "objective.label_smoothing"


def check_dpo(experiment: Experiment, place: Place) -> None:
    """Raises InputError for settings that some trial would ignore, or that no trial could train with."""
    losses = set(_single(possible(experiment, _LOSS)))
    smoothing = possible(experiment, _SMOOTHING)
    if max(smoothing) > 0 and not losses & SMOOTHED:
        what = f"only {', '.join(sorted(SMOOTHED))} read it, and loss_type is {', '.join(sorted(losses))}"
        raise InputError(at(place, "objective", "label_smoothing"), what, "leave it out, or add such a loss")
    if min(smoothing) == 0 and (needing := sorted(losses & NEED_SMOOTHING)):
        what = f"may be 0, with which loss_type {needing[0]} can't train"
        raise InputError(at(place, "objective", "label_smoothing"), what, "set it above 0 for all trials, such as 0.1")
    for each in possible(experiment, "method.target_modules"):
        if each is not None and names(each, "lm_head"):
            what = "takes lm_head, which TRL's DPOTrainer multiplies with past any adapter"
            raise InputError(at(place, "method", "target_modules"), what, "leave lm_head out")


def _single(values: Iterable[Any]) -> list[str]:
    """Returns each loss, whether it was named alone or in a list."""
    return [name for value in values for name in ([value] if isinstance(value, str) else value)]
