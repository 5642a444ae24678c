"""`method: {type: lora}`, and its facts."""

from __future__ import annotations

from typing import ClassVar, Literal

from raytune_ft.config.methods.facts import BaseLoaded
from raytune_ft.config.methods.low_rank import LowRank


class Lora(LowRank):
    """Low-rank adapters beside frozen weights (Hu et al. 2021, arXiv 2106.09685), by PEFT."""

    base_loaded: ClassVar[BaseLoaded] = "as_it_is"
    strategies: ClassVar[tuple[str, ...]] = ("ddp", "deepspeed")
    not_on_lanes: ClassVar[str | None] = None

    type: Literal["lora"] = "lora"
