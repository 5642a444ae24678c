"""LoRA: adapters beside the frozen base, by PEFT."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from raytune_ft.config.attention import in_transformers
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.methods.lora import Lora
from raytune_ft.data.safetensors_header import TensorInfo
from raytune_ft.methods.low_rank import TRAINING_FLOPS, check, lora_parameters, peft_config, settings_in_words
from raytune_ft.methods.weights.base_model import load_base

__all__ = ["adapter", "base_bytes", "check", "flops", "load", "parameters", "words"]


def load(experiment: Experiment) -> Any:
    """Returns the base in `train.dtype`."""
    return load_base(experiment, in_transformers(experiment.train.attn_implementation))


def adapter(method: Lora) -> Any:
    """Returns PEFT's LoraConfig."""
    return peft_config(method)


def parameters(method: Lora, tensors: Mapping[str, TensorInfo]) -> int:
    """Returns the weights of A and B over all target modules."""
    return lora_parameters(tensors, method.r, method.target_modules)


def base_bytes(tensors: Mapping[str, TensorInfo], width: int) -> int:
    """Returns the bytes of the base's weights in `train.dtype`."""
    return width * sum(math.prod(info.shape) for info in tensors.values())


def flops() -> int:
    """Returns 4: the frozen weights have no gradient of their own."""
    return TRAINING_FLOPS


def words(config: Mapping[str, Any]) -> str:
    """Returns the adapter's settings."""
    return f"LoRA: {settings_in_words(config)}"
