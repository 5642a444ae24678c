"""`train.attn_implementation`: how attention is computed, on a lane and in transformers."""

from __future__ import annotations

from typing import Literal

Attention = Literal["auto", "eager", "sdpa", "flash_attention_2"]
Kernel = Literal["math", "sdpa", "flash"]
"""A lane's attention: plain matrix products, PyTorch's choice of a kernel, or PyTorch's own flash kernel."""


def lane_kernel(attention: Attention, *, on_gpu: bool) -> Kernel:
    """Returns the kernel for a lane; on CPUs plain matrix products are the fastest for short rows."""
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
    """Returns transformers' name of the attention, for isolated trials and evaluation."""
    return "sdpa" if attention == "auto" else attention
