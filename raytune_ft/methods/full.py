"""Full fine-tuning: all of the base's weights are trained, and a whole model comes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytune_ft.config.attention import in_transformers
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.methods.full import Full
from raytune_ft.config.training import DeepSpeed
from raytune_ft.data.safetensors_header import TensorInfo, weights_in
from raytune_ft.methods.weights.adapter_check import AdapterFacts
from raytune_ft.methods.weights.base_model import load_base
from raytune_ft.methods.weights.model_check import check_model


def load(experiment: Experiment) -> Any:
    """Returns the base in float32, unless DeepSpeed keeps a float32 copy of its own."""
    sharded = isinstance(experiment.resources.strategy, DeepSpeed)
    return load_base(experiment, in_transformers(experiment.train.attn_implementation), moves=not sharded)


def adapter(method: Full) -> None:
    """Returns None: there is no adapter."""
    return


def parameters(method: Full, tensors: Mapping[str, TensorInfo]) -> int:
    """Returns all weights."""
    return weights_in(tensors)


def base_bytes(tensors: Mapping[str, TensorInfo], width: int) -> int:
    """Returns the bytes of the model's weights at `width` bytes each."""
    return width * weights_in(tensors)


def flops() -> int:
    """Returns 6: 4 as for frozen weights, and 2 for the gradient of each weight."""
    return 6


def check(directory: Path, base_model: str, *, may_be_merged: bool) -> AdapterFacts:
    """Checks that a whole model with the base's shapes is there; there is nothing to merge."""
    return check_model(directory, base_model)


def words(config: Mapping[str, Any]) -> str:
    """Returns that all weights were trained."""
    return "all weights were trained"
