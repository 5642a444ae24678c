"""Attention within rows that are concatenated to one sequence, as `rows` in transformers' attention interface.

Rows of similar length are computed as a rectangle with one causal mask; padding is to the right of a row's tokens, so
that they never attend to it. Read against transformers 5.19, whose models pass their keyword arguments on to here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from raytune_ft.config.attention import Kernel
from raytune_ft.lean_imports import import_transformers
from raytune_ft.training.lane.packing.layout import AttentionGroup, Layout

NAME = "rows"


def register() -> None:
    """Registers `attn_implementation="rows"` with transformers; may be called again."""
    import_transformers()
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, rows_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    """Returns no mask, since the layout separates the rows; a mask over all tokens would grow with their square."""


def rows_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    layout: Layout,
    kernel: Kernel,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Computes causal attention within each row.

    Args:
        module: transformers' attention module.
        query: [1, heads, T, d].
        key: [1, kv heads, T, d].
        value: [1, kv heads, T, d].
        attention_mask: Always None.
        layout: Positions of the rows.
        kernel: The kernel to use.
        scaling: Factor of the scores; by default 1 / sqrt(d).

    Returns:
        The output, [1, T, heads, d], and None in place of the attention weights.
    """
    scaling = query.shape[3] ** -0.5 if scaling is None else scaling
    by_token = [each[0].transpose(0, 1) for each in (query, key, value)]  # [T, heads, d], as projected
    attend: Callable[..., torch.Tensor] = _math if kernel == "math" else _sdpa
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION) if kernel == "flash" else nullcontext():
        return attend(*by_token, scaling, layout)[None], None


def check_flash(config: Any, dtype: torch.dtype, device: str) -> None:
    """Runs PyTorch's flash kernel on a few numbers, forward and backward, to see whether it works.

    Args:
        config: transformers' config of the base.
        dtype: Dtype of the activations.
        device: Device of the base.

    Raises:
        ValueError: There is no flash kernel for these heads, this dtype or this device.
    """
    heads, size = config.num_attention_heads, getattr(config, "head_dim", None)
    kv_heads, size = getattr(config, "num_key_value_heads", None) or heads, size or config.hidden_size // heads
    q, k, v = (torch.zeros(1, n, 16, size, dtype=dtype, device=device) for n in (heads, kv_heads, kv_heads))
    try:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION), torch.enable_grad():
            out = torch.nn.functional.scaled_dot_product_attention(
                q.requires_grad_(), k, v, is_causal=True, enable_gqa=True
            )
            torch.autograd.grad(out.sum(), q)
    except RuntimeError as error:
        what = f"PyTorch has no flash kernel here for heads of {size} numbers in {str(dtype).removeprefix('torch.')}"
        raise ValueError(f"train.attn_implementation: flash_attention_2: {what}; use sdpa or auto") from error


def _sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float, layout: Layout) -> torch.Tensor:
    """Computes attention with PyTorch's kernel on each group's rectangle."""
    joined = torch.cat((q, k, v), dim=1)  # so that one gather serves all three
    cells = []
    for group in layout.groups:
        rectangle = joined.index_select(0, group.index).view(group.rows, group.width, *joined.shape[1:])
        sizes: Any = (q.shape[1], k.shape[1], k.shape[1])
        qs, ks, vs = torch.split(rectangle.transpose(1, 2), sizes, dim=1)
        out = torch.nn.functional.scaled_dot_product_attention(
            qs, ks, vs, is_causal=True, scale=scaling, enable_gqa=True
        )
        cells.append(out.transpose(1, 2).reshape(-1, *q.shape[1:]))
    return _line(cells, layout, len(q))


def _line(cells: list[torch.Tensor], layout: Layout, tokens: int) -> torch.Tensor:
    """Puts the groups' cells back into the order of the tokens, [tokens, ...]; tokens after the rows are zero."""
    line = (cells[0] if len(cells) == 1 else torch.cat(cells)).index_select(0, layout.back)
    behind = tokens - layout.used
    return torch.cat((line, line.new_zeros(behind, *line.shape[1:]))) if behind else line


class _MathAttention(torch.autograd.Function):
    """Attention by plain matrix products; on a CPU the flash kernel's backward pass is slow for short rows.

    Queries of heads that share a key head are stacked. Shapes use n = kv heads * rows of a group, w = width of the
    group, g = heads / kv heads.
    """

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float, layout: Layout
    ) -> torch.Tensor:
        kept, cells = [], []
        for group in layout.groups:
            qs, ks, vs = (_rectangles(each, k.shape[1], group) for each in (q, k, v))  # [n, g * w, d], [n, w, d] twice
            future = torch.ones(group.width, group.width, dtype=torch.bool, device=q.device).triu_(1)
            scores = torch.baddbmm(qs.new_empty(()), qs, ks.transpose(1, 2), beta=0, alpha=scaling)
            scores.view(-1, group.width, group.width).masked_fill_(future, -torch.inf)
            weights = torch.softmax(scores, -1)
            cells.append(_cells(torch.bmm(weights, vs), k.shape[1], group))
            if any(ctx.needs_input_grad):
                kept += [qs, ks, vs, weights]
        ctx.save_for_backward(*kept)
        ctx.scaling, ctx.layout = scaling, layout
        return _line(cells, layout, len(q))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (dout,) = grads
        kept, layout, scaling = ctx.saved_tensors, ctx.layout, ctx.scaling
        kv_heads = kept[1].shape[0] // layout.groups[0].rows
        size = sum(len(group.index) for group in layout.groups)
        dcells = dout.new_zeros(size, *dout.shape[1:]).index_copy_(0, layout.back, dout[: layout.used])
        found: list[tuple[torch.Tensor, ...]] = []
        start = 0
        for number, group in enumerate(layout.groups):
            qs, ks, vs, weights = kept[4 * number : 4 * number + 4]
            douts = _heads(dcells[start : start + len(group.index)], kv_heads, group)
            start += len(group.index)
            dvs = torch.bmm(weights.transpose(1, 2), douts)
            dweights = torch.bmm(douts, vs.transpose(1, 2))
            dscores = torch._softmax_backward_data(dweights, weights, -1, weights.dtype)
            none = qs.new_empty(())
            dqs = torch.baddbmm(none, dscores, ks, beta=0, alpha=scaling)
            dks = torch.baddbmm(none, dscores.transpose(1, 2), qs, beta=0, alpha=scaling)
            found.append(tuple(_cells(each, kv_heads, group) for each in (dqs, dks, dvs)))
        dq, dk, dv = (_line(list(each), layout, len(dout)) for each in zip(*found, strict=True))
        return dq, dk, dv, None, None


def _rectangles(tokens: torch.Tensor, kv_heads: int, group: AttentionGroup) -> torch.Tensor:
    """Gathers tokens to a group's rectangle, [T, heads, d] -> [n, g * w, d]."""
    return _heads(tokens.index_select(0, group.index), kv_heads, group)


def _heads(cells: torch.Tensor, kv_heads: int, group: AttentionGroup) -> torch.Tensor:
    """Moves heads to the front, [rows * w, heads, d] -> [n, g * w, d]."""
    size = cells.shape[2]
    apart = cells.view(group.rows, group.width, kv_heads, -1, size).permute(2, 0, 3, 1, 4)
    return apart.reshape(kv_heads * group.rows, -1, size)


def _cells(heads: torch.Tensor, kv_heads: int, group: AttentionGroup) -> torch.Tensor:
    """Is the inverse of `_heads`, [n, g * w, d] -> [rows * w, heads, d]."""
    size = heads.shape[2]
    apart = heads.view(kv_heads, group.rows, -1, group.width, size).permute(1, 3, 0, 2, 4)
    return apart.reshape(group.rows * group.width, -1, size)


_math: Callable[..., torch.Tensor] = _MathAttention.apply
