"""What all methods with LoRA's adapters do alike."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from raytune_ft.config.methods.low_rank import LowRank
from raytune_ft.config.target_modules import names
from raytune_ft.data.safetensors_header import TensorInfo
from raytune_ft.methods.weights.adapter_check import AdapterFacts, check_adapter, check_mergeable

_EMBEDDING = re.compile(r"(.*\.)?(lm_head|embed_out|wte|wpe|[^.]*embed[^.]*)")


def adapter(method: LowRank) -> Any:
    """Returns PEFT's LoraConfig."""
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=method.r,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=method.target_modules,
        use_rslora=method.use_rslora,
        use_dora=method.use_dora,
    )


def parameters(method: LowRank, tensors: Mapping[str, TensorInfo]) -> int:
    """Returns the number of weights of A and B over all target modules."""
    return lora_parameters(tensors, method.r, method.target_modules)


def flops() -> int:
    """Returns 4: 2 forward, and 2 for the gradient of the activations; frozen weights have none of their own."""
    return 4


def lora_parameters(tensors: Mapping[str, TensorInfo], r: int, target_modules: str | Collection[str]) -> int:
    """Returns the number of LoRA weights, A [r, in] and B [out, r], over the modules that `target_modules` selects.

    Args:
        tensors: The base model's weights, by name.
        r: The rank.
        target_modules: As in PEFT: `all-linear` (all but embeddings and head), a pattern for a module's whole path, or
            ends of paths.
    """
    return sum(r * sum(shape) for module, shape in linear_shapes(tensors).items() if _meant(module, target_modules))


def linear_shapes(tensors: Mapping[str, TensorInfo]) -> dict[str, tuple[int, ...]]:
    """Returns module -> [out, in] of every weight that is a matrix, embeddings and head included."""
    return {
        name.removesuffix(".weight"): info.shape
        for name, info in tensors.items()
        if name.endswith(".weight") and len(info.shape) == 2
    }


def is_embedding(module: str) -> bool:
    """Tells whether a module is an embedding or the head, by its name."""
    return _EMBEDDING.fullmatch(module) is not None


def check(directory: Path, base_model: str, *, may_be_merged: bool) -> AdapterFacts:
    """Checks that an adapter can be served on its base, or at least be merged into it."""
    return (check_mergeable if may_be_merged else check_adapter)(directory, base_model)


def settings_in_words(config: Mapping[str, Any]) -> str:
    """Returns an adapter's settings, from adapter_config.json."""
    return (
        f"r {config.get('r')}, alpha {config.get('lora_alpha')}, dropout {config.get('lora_dropout', 0)}, "
        f"rsLoRA {bool(config.get('use_rslora'))}, DoRA {bool(config.get('use_dora'))}"
    )


def _meant(module: str, target_modules: str | Collection[str]) -> bool:
    return not is_embedding(module) if target_modules == "all-linear" else names(target_modules, module)
