"""Attention within rows that lie end to end, under the name `rows` in transformers' attention interface.

Rows of similar length are taken as a rectangle, so one causal mask serves them all: what lies past a row's end is to
the right of all its tokens. Read against transformers 5.19, whose models hand their keyword arguments down to here.
"""

from __future__ import annotations

from typing import Any

import torch

from raytune_ft.training.lane.layout import Layout

NAME = "rows"


def register() -> None:
    """Makes `attn_implementation="rows"` known; a second call does nothing more."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, rows_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    """The layout parts the rows; a mask over all tokens would grow with their square."""


def rows_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    layout: Layout,
    kernel: str,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each row on its own.

    Args:
        module: transformers' attention module.
        query: [1, heads, T, d].
        key: [1, kv heads, T, d].
        value: [1, kv heads, T, d].
        attention_mask: None.
        layout: Where the rows are.
        kernel: `math` or `sdpa`.
        scaling: Of the scores; by default 1 / sqrt(d).

    Returns:
        [1, T, heads, d], and no weights.
    """
    heads, size = query.shape[1], query.shape[3]
    kv_heads = key.shape[1]
    scaling = size**-0.5 if scaling is None else scaling
    attend = _math if kernel == "math" else _sdpa
    # Heads together in one gather: [T, heads + 2 * kv heads, d].
    joined = torch.cat((query[0], key[0], value[0])).transpose(0, 1)
    cells = []
    for group in layout.groups:
        rectangle: Any = joined.index_select(0, group.index).view(group.rows, group.width, -1, size).transpose(1, 2)
        q, k, v = rectangle.split((heads, kv_heads, kv_heads), dim=1)
        out = attend(q, k, v, scaling)  # [rows, heads, width, d]
        cells.append(out.transpose(1, 2).reshape(-1, heads, size))
    whole = cells[0] if len(cells) == 1 else torch.cat(cells)
    return whole.index_select(0, layout.back)[None], None


def _sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)


def _math(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float) -> torch.Tensor:
    rows, heads, width, size = q.shape
    grouped = q.reshape(rows * k.shape[1], -1, size)  # the queries that share a key head, below one another
    flat = (rows * k.shape[1], width, size)
    apply: Any = _MathAttention.apply
    out: torch.Tensor = apply(grouped, k.reshape(flat), v.reshape(flat), scaling)
    return out.view(rows, heads, width, size)


class _MathAttention(torch.autograd.Function):
    """Plain matrix products forward and backward: on a CPU the flash kernel's backward is slow for short rows."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float
    ) -> torch.Tensor:  # q [n, g * w, d], k and v [n, w, d]
        width = k.shape[1]
        future = torch.ones(width, width, dtype=torch.bool, device=q.device).triu_(1)
        scores = torch.bmm(q, k.transpose(1, 2)).float().mul_(scaling).view(-1, width, width)
        weights = torch.softmax(scores.masked_fill_(future, -torch.inf), -1).to(q.dtype).view(len(q), -1, width)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scaling = scaling
        return torch.bmm(weights, v)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (dout,) = grads
        q, k, v, weights = ctx.saved_tensors
        dv = torch.bmm(weights.transpose(1, 2), dout)
        dweights = torch.bmm(dout, v.transpose(1, 2)).float()
        dscores = torch._softmax_backward_data(dweights, weights.float(), -1, torch.float32)
        dscores = dscores.mul_(ctx.scaling).to(q.dtype)
        return torch.bmm(dscores, k), torch.bmm(dscores.transpose(1, 2), q), dv, None
