"""Which base models a lane can run, read off their config.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
"""Decoders whose rows may be laid end to end: causal attention only, plain linear projections, no experts."""

_DEFAULT_WINDOWS = {"mistral": 4096}  # transformers' default where config.json is silent
_WINDOWS_ON_REQUEST = ("qwen2", "qwen3")  # a window counts only with use_sliding_window
_DROPOUTS = ("attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop")
_ROPES_BY_LENGTH = ("dynamic", "longrope")  # one long row changes the angles of all rows beside it


def refusal(config: Mapping[str, Any], max_length: int) -> str | None:
    """Why a lane can't run this base, as a clause; None where it can.

    Args:
        config: The model's config.json.
        max_length: Tokens of a row at most.
    """
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        return f"the base's model_type {model_type} is not one that lanes run ({', '.join(MODEL_TYPES)})"
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
    """Tokens that attention looks back, where some layer looks back less than to the start."""
    model_type = config["model_type"]
    if model_type == "llama" or (model_type in _WINDOWS_ON_REQUEST and not config.get("use_sliding_window")):
        return None
    if set(config.get("layer_types") or ["sliding_attention"]) == {"full_attention"}:
        return None
    window: int | None = config.get("sliding_window", _DEFAULT_WINDOWS.get(model_type, 4096))
    return window
