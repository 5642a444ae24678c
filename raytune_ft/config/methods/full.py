"""`method: {type: full}`, and its facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from raytune_ft.config.methods.facts import Artefact, BaseLoaded, Served
from raytune_ft.config.model import Strict


class Full(Strict):
    """Full fine-tuning: all weights are trained. The winner is a complete model with an engine of its own."""

    artefact: ClassVar[Artefact] = "model"
    rate: ClassVar[float] = 0.1  # "LoRA Without Regret", 2025
    weight_bytes: ClassVar[int] = 4
    base_loaded: ClassVar[BaseLoaded] = "as_it_is"
    takes_quantized: ClassVar[bool] = False
    strategies: ClassVar[tuple[str, ...]] = ("ddp", "deepspeed")
    not_on_lanes: ClassVar[str | None] = "method full moves the base's own weights, which the trials of a lane share"
    lanes_refuse: ClassVar[Mapping[str, str]] = {}
    served: ClassVar[Served] = "whole"
    merged_with: ClassVar[tuple[str, ...]] = ()

    type: Literal["full"] = "full"
