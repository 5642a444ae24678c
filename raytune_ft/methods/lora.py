"""LoRA: adapters beside the frozen base, by PEFT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_ft.config.attention import in_transformers
from raytune_ft.config.experiment import Experiment
from raytune_ft.data.safetensors_header import TensorInfo, weights_in
from raytune_ft.methods.low_rank import adapter, check, flops, parameters, settings_in_words
from raytune_ft.methods.weights.base_model import load_base

__all__ = ["adapter", "base_bytes", "check", "flops", "load", "parameters", "words"]


def load(experiment: Experiment) -> Any:
    """Returns the base in `train.dtype`."""
    return load_base(experiment, in_transformers(experiment.train.attn_implementation))


def base_bytes(tensors: Mapping[str, TensorInfo], width: int) -> int:
    """Returns the bytes of the base's weights in `train.dtype`."""
    return width * weights_in(tensors)


def words(config: Mapping[str, Any]) -> str:
    """Returns the adapter's settings."""
    return f"LoRA: {settings_in_words(config)}"
