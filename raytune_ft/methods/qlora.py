"""QLoRA: LoRA's adapters beside a base in 4 bits, by PEFT and bitsandbytes.

The adapter is evaluated, checked and served on the base as it is. Its numbers there differ a little from those that its
trials reported on the quantized base; `evaluate` measures by how much, and the card says it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from raytune_ft.config.attention import in_transformers
from raytune_ft.config.experiment import Experiment
from raytune_ft.data.safetensors_header import TensorInfo, weights_in
from raytune_ft.hardware.here import torch_type
from raytune_ft.methods.low_rank import (
    adapter,
    check,
    flops,
    is_embedding,
    linear_shapes,
    parameters,
    settings_in_words,
)
from raytune_ft.methods.weights.base_model import load_base

__all__ = ["adapter", "base_bytes", "check", "flops", "load", "parameters", "words"]

BLOCK, OUTER_BLOCK = 64, 256
"""Weights that share a scale, and scales that share one of their own (double quantization); bitsandbytes' defaults."""
_TABLES = 4 * (16 + 256)
"""Bytes of a tensor's tables of the values that 4 and 8 bits stand for."""


def load(experiment: Experiment) -> Any:
    """Returns the base with its linear modules in nf4, double quantized; they multiply in `train.dtype`."""
    from transformers import BitsAndBytesConfig

    quantization: Any = BitsAndBytesConfig  # it has no type hints
    config = quantization(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch_type(experiment.train.number_type),
    )
    model = load_base(experiment, in_transformers(experiment.train.attn_implementation), quantization=config)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Else the first evaluation on a CPU with AVX-512 would repack the weights in place, for products that have
            # no gradient, and steps after it would learn through no layer (bitsandbytes 0.50).
            module.support_avx512bf16_for_cpu = False
    return model


def base_bytes(tensors: Mapping[str, TensorInfo], width: int) -> int:
    """Returns the bytes of the base: 4 bits a weight with their scales; embeddings, head and norms as they are."""
    linear = [math.prod(shape) for module, shape in linear_shapes(tensors).items() if not is_embedding(module)]
    rest = weights_in(tensors) - sum(linear)
    return sum(_nf4_bytes(weights) for weights in linear) + width * rest


def _nf4_bytes(weights: int) -> int:
    scales = -(-weights // BLOCK)
    return -(-weights // 2) + scales + 4 * -(-scales // OUTER_BLOCK) + _TABLES


def words(config: Mapping[str, Any]) -> str:
    """Returns the adapter's settings."""
    return f"QLoRA, on the base in 4 bits (nf4): {settings_in_words(config)}"
