"""The settings that all methods with LoRA's adapters have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, StrictFloat, StrictInt, field_validator

from raytune_ft.config.methods.facts import Artefact, Served
from raytune_ft.config.model import Strict

MAX_SERVED_LORA_RANK = 512  # vLLM 0.29: the largest member of its MaxLoRARanks


class LowRank(Strict):
    """Low-rank adapters beside frozen weights."""

    artefact: ClassVar[Artefact] = "adapter"
    rate: ClassVar[float] = 1.0
    weight_bytes: ClassVar[int] = 4
    takes_quantized: ClassVar[bool] = True
    lanes_refuse: ClassVar[Mapping[str, str]] = {
        "use_dora": "scales whole columns of the weights, which a lane's step does not"
    }
    served: ClassVar[Served] = "as_it_is"
    merged_with: ClassVar[tuple[str, ...]] = ("use_dora",)

    r: StrictInt = Field(16, ge=1, le=MAX_SERVED_LORA_RANK)
    """Rank of the adapters; vLLM serves ranks up to 512."""
    alpha: StrictInt = Field(32, ge=1)
    """Scale of the adapters' output, which is alpha / r, or alpha / sqrt(r) with `use_rslora`."""
    dropout: StrictFloat = Field(0.0, ge=0.0, lt=1.0)
    """Dropout before the adapters."""
    target_modules: str | list[str] = "all-linear"
    """The modules that get adapters, by PEFT's names."""
    use_rslora: bool = False
    """Use the rank-stabilised scale (Kalajdzievski 2023, arXiv 2312.03732)."""
    use_dora: bool = False
    """Train magnitude and direction of the weights separately (DoRA, Liu et al. 2024, arXiv 2402.09353). vLLM can't
    load such adapters; it needs `promotion.merge`, and isolated trials."""

    @field_validator("target_modules")
    @classmethod
    def _a_pattern(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, str):
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"{value!r} is not a regular expression ({error}); give names as a list") from None
        return value
