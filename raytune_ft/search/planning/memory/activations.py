"""Estimates the memory of a pass over some rows, without the weights, from the base model's config.json alone.

The counts follow what the lane's step (training/lane) and TRL's SFTTrainer keep for the backward pass in Llama's family
of models; other models keep about as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytune_ft.objectives.sizes import LOGIT_CHUNK
from raytune_ft.training.lane.sizes import EVALUATION_TOKENS

LOGIT_BYTES = 8
"""Bytes per logit of a chunk: float32, and a second copy while their norm is computed."""
TRL_LOGIT_BYTES = 14
"""Bytes per logit where those of all positions are kept: in the base's dtype, float32, its softmax and the gradient."""
PROJECTIONS = 7
"""Number of linear modules in a layer: q, k, v, o, gate, up, down."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder model, as its config.json names them."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int

    @staticmethod
    def of(config: Mapping[str, Any]) -> Shape | None:
        """Returns the shape from a `config.json`; None where the file lacks these names."""
        text = config.get("text_config") or config
        try:
            hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
            return Shape(
                hidden=hidden,
                layers=int(text["num_hidden_layers"]),
                intermediate=int(text["intermediate_size"]),
                heads=heads,
                kv_heads=int(text.get("num_key_value_heads") or heads),
                head_size=int(text.get("head_dim") or hidden // heads),
                vocabulary=int(text["vocab_size"]),
            )
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def query(self) -> int:
        """Width of the query projection's output, over all heads."""
        return self.heads * self.head_size

    @property
    def linear_weights(self) -> int:
        """Number of weights in all linear modules but the head; each token is multiplied with all of them."""
        attention = 2 * self.query * self.hidden + 2 * self.kv_heads * self.head_size * self.hidden
        return self.layers * (attention + 3 * self.hidden * self.intermediate)


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass.

    Attributes:
        tokens: How many tokens all its rows have.
        width: How many tokens its longest row has.
        answers: How many positions carry loss.
        rank: The adapters' rank.
        dtype_bytes: Bytes per number of the base model.
        checkpointing: Whether layers run again in the backward pass (gradient checkpointing).
        math: Whether attention multiplies plain matrices, and keeps the attention weights.
    """

    tokens: float
    width: float
    answers: float
    rank: int
    dtype_bytes: int
    checkpointing: bool
    math: bool


def lane_training_bytes(shape: Shape, of: Pass) -> int:
    """Returns the peak bytes of a lane's training step: what all layers keep, and the largest temporary tensors."""
    passing = max(_loss_bytes(shape, of.answers), _passing_bytes(shape, of.tokens, of, backward=True))
    return round(lane_kept_bytes(shape, of) + passing)


def lane_kept_bytes(shape: Shape, of: Pass) -> int:
    """Returns the bytes that all layers keep for the backward pass."""
    wide = of.dtype_bytes
    qkv = shape.query + 2 * shape.kv_heads * shape.head_size
    # Norms keep input and output; attention its inputs and output; the gated product its two inputs and output.
    kept: float = 4 * shape.hidden + qkv + shape.query + 3 * shape.intermediate + PROJECTIONS * of.rank
    kept += shape.heads * of.width if of.math else shape.query
    a_layer = of.tokens * kept * wide
    layers: float = a_layer * shape.layers
    if of.checkpointing:
        layers = of.tokens * shape.hidden * wide * shape.layers + a_layer
    return round(layers)


def lane_evaluation_bytes(shape: Shape, of: Pass, answers_per_token: float) -> int:
    """Returns the peak bytes of a pass of the lane's evaluation, which keeps nothing for a backward pass.

    Args:
        shape: The base model's layers and widths.
        of: A training pass of the same rows.
        answers_per_token: Share of the tokens that carry loss.
    """
    logits = _loss_bytes(shape, EVALUATION_TOKENS * answers_per_token)
    return round(logits + _passing_bytes(shape, EVALUATION_TOKENS, of, backward=False))


def trl_training_bytes(shape: Shape, of: Pass) -> int:
    """Returns the peak bytes of a step of TRL's SFTTrainer.

    Rows are padded, adapters get copies of activations, and the logits of all positions are kept.

    Args:
        shape: The base model's layers and widths.
        of: The pass; `tokens` includes the padding.
    """
    wide = of.dtype_bytes
    qkv = shape.query + 2 * shape.kv_heads * shape.head_size
    kept: float = 9 * shape.hidden + 2 * qkv + 2 * shape.query + 5 * shape.intermediate + 2 * PROJECTIONS * of.rank
    kept *= wide
    kept += 8 * shape.hidden  # norms work in float32
    kept += (4 + wide) * shape.heads * of.width if of.math else wide * shape.query
    layers: float = of.tokens * kept * shape.layers
    if of.checkpointing:
        layers = of.tokens * (shape.hidden * wide * shape.layers + kept)
    return round(layers + of.tokens * shape.vocabulary * TRL_LOGIT_BYTES)


def _loss_bytes(shape: Shape, answers: float) -> float:
    return LOGIT_BYTES * shape.vocabulary * min(answers, LOGIT_CHUNK)


def _passing_bytes(shape: Shape, tokens: float, of: Pass, *, backward: bool) -> float:
    """Returns the bytes of temporary tensors that one layer allocates and frees."""
    numbers = 6 * shape.hidden + 4 * shape.intermediate + (shape.query if backward else 3 * shape.query)
    scores = 12 * shape.heads * of.width if of.math else 0
    return tokens * (of.dtype_bytes * numbers + scores)
