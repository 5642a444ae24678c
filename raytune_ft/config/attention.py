"""`train.attn_implementation`: how attention is computed, and what that comes to on a lane."""

from __future__ import annotations

from typing import Literal

Attention = Literal["auto", "eager", "sdpa", "flash_attention_2"]
Kernel = Literal["math", "sdpa", "flash"]
"""A lane's: plain matrix products, PyTorch's choice, PyTorch's own flash kernel."""


def lane_kernel(attention: Attention, *, on_gpu: bool) -> Kernel:
    """What computes it on a lane; on CPUs plain products are the fastest for short rows."""
    match attention:
        case "auto":
            return "sdpa" if on_gpu else "math"
        case "eager":
            return "math"
        case "sdpa":
            return "sdpa"
        case "flash_attention_2":
            return "flash"


def in_transformers(attention: Attention) -> str:
    """By transformers' names, for isolated trials and evaluation."""
    return "sdpa" if attention == "auto" else attention
