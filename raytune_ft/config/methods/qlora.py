"""`method: {type: qlora}`, and its facts."""

from __future__ import annotations

from typing import ClassVar, Literal

from raytune_ft.config.methods.facts import BaseLoaded
from raytune_ft.config.methods.low_rank import LowRank


class Qlora(LowRank):
    """LoRA's adapters on a base that is held in 4 bits (Dettmers et al. 2023, arXiv 2305.14314), by PEFT and
    bitsandbytes: nf4 with double quantization. Evaluated and served on the base as it is, without quantization."""

    weight_bytes: ClassVar[int] = 2  # TRL trains adapters beside a quantized base in bfloat16, as the paper does
    base_loaded: ClassVar[BaseLoaded] = "nf4"
    takes_quantized: ClassVar[bool] = False
    strategies: ClassVar[tuple[str, ...]] = ("ddp",)
    not_on_lanes: ClassVar[str | None] = "qlora holds the base in 4 bits, and a lane multiplies with whole numbers"

    type: Literal["qlora"] = "qlora"
