"""The types of number that a model can compute in."""

from __future__ import annotations

from typing import Literal

NumberType = Literal["bfloat16", "float16", "float32"]

WIDTHS: dict[NumberType, int] = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Bytes of one number."""

NOT_IN_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "glm4")
"""Model types whose activations float16 does not hold; vLLM 0.29 refuses them in it."""


def holds(this: NumberType, other: NumberType) -> bool:
    """Whether every number of type `other` is one of type `this`: bfloat16 has a wider range, float16 finer steps."""
    return this in (other, "float32")
