"""The modules of the objectives, by name: a new one is named here."""

from __future__ import annotations

from typing import Any

from raytune_ft.errors import InputError
from raytune_ft.objectives import dpo, sft
from raytune_ft.objectives.parts import ObjectiveRoom

ROOMS: dict[str, ObjectiveRoom] = {"sft": sft, "dpo": dpo}
"""Objectives that train language models on rows; `custom` brings its own trainer, and has none of these functions."""


def room(objective: Any) -> ObjectiveRoom:
    """Returns the functions of an objective.

    Raises:
        InputError: It is `custom`, whose trainer is not ours.
    """
    if objective.type not in ROOMS:
        what = f"custom: only {objective.trainer} knows what it makes, so no gate can judge it and no endpoint serve it"
        raise InputError(
            "objective.type", what, "use the winner's checkpoint, which winner.json names, in your own code"
        )
    return ROOMS[objective.type]
