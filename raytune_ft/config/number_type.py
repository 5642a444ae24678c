"""The number types that a model can compute in."""

from __future__ import annotations

from typing import Literal

NumberType = Literal["bfloat16", "float16", "float32"]

WIDTHS: dict[NumberType, int] = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Bytes of one number."""

NOT_IN_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "glm4")
"""Model types whose activations overflow in float16, which vLLM 0.29 therefore refuses."""


def holds(this: NumberType, other: NumberType) -> bool:
    """Tells whether `this` can represent every number of `other`; bfloat16 has more range, float16 more precision."""
    return this in (other, "float32")
