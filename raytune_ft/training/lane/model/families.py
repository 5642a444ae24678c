"""Tells which base models a lane can run, by their config.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL_TYPES = (
    "arcee",
    "ernie4_5",
    "gemma",
    "glm",
    "glm4",
    "llama",
    "ministral",
    "mistral",
    "olmo",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
    "starcoder2",
)
"""Decoders whose rows can be concatenated: they have causal attention through transformers' interface, plain linear
projections, no experts, and logits that are just the last hidden states times the head."""

_DEFAULT_WINDOWS = {"ministral": 4096, "mistral": 4096, "phi3": None, "qwen2": 4096, "qwen3": 4096}
_DEFAULT_WINDOWS |= {"smollm3": None, "starcoder2": None}  # transformers' defaults; other models have none
_WINDOWS_ON_REQUEST = ("qwen2", "qwen3", "smollm3")  # their window applies only with use_sliding_window
_WINDOWS_BY_LAYER = (*_WINDOWS_ON_REQUEST, "ministral")  # it applies to layers of the type sliding_attention
_DROPOUTS = (
    "attention_dropout",
    "hidden_dropout",
    "residual_dropout",
    "embedding_dropout",
    "resid_pdrop",
    "embd_pdrop",
)
_UNKNOWN_LAYERS = ("sliding_attention",)
_ROPES_BY_LENGTH = ("dynamic", "longrope")  # one long row would change the angles of all rows in its pass


def refusal(config: Mapping[str, Any], max_length: int) -> str | None:
    """Returns the reason why a lane can't run this base, as a clause, or None if it can.

    Args:
        config: Contents of the model's config.json.
        max_length: Most tokens of a row.
    """
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        return f"the base's model_type {model_type} is not one that lanes run ({', '.join(MODEL_TYPES)})"
    if config.get("use_bidirectional_attention"):
        return "the base attends to later tokens too"
    if config.get("quantization_config"):
        return "the base is quantized"
    for key in _DROPOUTS:
        if config.get(key):
            return f"the base trains with {key} {config[key]}, which lanes leave out"
    window = _window(config)
    if window is not None and window < max_length:
        return f"the base's sliding window of {window} tokens is shorter than data.max_length {max_length}"
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type"))
    whole = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    limit = whole or config.get("max_position_embeddings")
    if kind in _ROPES_BY_LENGTH and (limit is None or limit < max_length):
        return f"the base's {kind} rotary embedding depends on the longest row beyond {limit} tokens"
    return None


def _window(config: Mapping[str, Any]) -> int | None:
    """Returns the size of the attention window in tokens if some layer has one, else None."""
    model_type = config["model_type"]
    if model_type not in _DEFAULT_WINDOWS:
        return None
    if model_type in _WINDOWS_ON_REQUEST and not config.get("use_sliding_window"):
        return None
    if model_type in _WINDOWS_BY_LAYER and "sliding_attention" not in (config.get("layer_types") or _UNKNOWN_LAYERS):
        return None
    window: int | None = config.get("sliding_window", _DEFAULT_WINDOWS[model_type])
    return window
