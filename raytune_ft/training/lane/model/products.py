"""Products of frozen layers with all trials' LoRA matrices, forward and backward.

There are two ways to the same numbers. `loop` multiplies each trial's rows by its own matrices; it needs the fewest
operations and is best on CPUs. `grouped` stacks the matrices of all trials and multiplies once, with a mask that sets
the columns of other trials' ranks to zero; it needs no loop over trials and is best on GPUs, which small products would
leave idle.

Layers with the same input share one product for their inner activations, one for the gradient of these, and one sum for
the gradient of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from raytune_ft.training.lane.model.pack import Pack, Part


@dataclass(frozen=True)
class Layer:
    """A frozen linear layer and its adapters.

    Attributes:
        weight: [outputs, inputs].
        bias: [outputs] or None.
        parts: The trials that adapt it.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    parts: list[Part]


def adapted(x: torch.Tensor, layers: list[Layer], pack: Pack, keep: torch.Tensor | None) -> Sequence[torch.Tensor]:
    """Returns each layer's output with the pack's adapters, [T, inputs] -> [T, outputs].

    Args:
        x: The input of all layers, [T, inputs].
        layers: Layers that are adapted by the same trials, at least one.
        pack: The trials.
        keep: Dropout's mask, by which x is multiplied for the adapters, [T, inputs], or None.
    """
    if pack.grouped and len(layers[0].parts) > 1:
        return _grouped(x, keep, layers, pack.mask(layers[0].parts, len(layers), x))
    return _loop(x, keep, layers)


class _Loop(torch.autograd.Function):
    """The way `loop`; gradients of the matrices are added to the adapters' own vectors, not returned to autograd."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, keep: torch.Tensor | None, layers: list[Layer]) -> tuple[torch.Tensor, ...]:
        ys = [nn.functional.linear(x, layer.weight, layer.bias) for layer in layers]
        dropped = x if keep is None else x * keep
        joined, inner = [], []
        for parts in zip(*(layer.parts for layer in layers), strict=True):  # one trial's parts of all layers
            start, end, first = parts[0]
            a = first.a if len(parts) == 1 else torch.cat([lora.a for _, _, lora in parts])
            ax = dropped[start:end] @ a.T
            for y, own, (_, _, lora) in zip(ys, ax.chunk(len(parts), dim=1), parts, strict=True):
                y[start:end].addmm_(own, lora.b.T, alpha=lora.scale)
            joined.append(a)
            inner.append(ax)
        ctx.save_for_backward(dropped, keep, *joined, *inner)
        ctx.layers = layers
        return tuple(ys)

    @staticmethod
    def backward(ctx: Any, *dys: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dropped, keep, *saved = ctx.saved_tensors
        layers: list[Layer] = ctx.layers
        dx = _frozen_backward(dys, layers)
        trials = len(saved) // 2
        for number in range(trials):
            a, ax = saved[number], saved[trials + number]
            parts = [layer.parts[number] for layer in layers]
            start, end, first = parts[0]
            pieces = [dy[start:end] @ lora.b for dy, (_, _, lora) in zip(dys, parts, strict=True)]
            dax = (pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)).mul_(first.scale)
            for dy, own, (_, _, lora) in zip(dys, ax.chunk(len(parts), dim=1), parts, strict=True):
                lora.grad_b.add_(dy[start:end].T @ own, alpha=lora.scale)
            for grad, (_, _, lora) in zip((dax.T @ dropped[start:end]).chunk(len(parts)), parts, strict=True):
                lora.grad_a.add_(grad)
            if keep is None:
                dx[start:end].addmm_(dax, a)
            else:
                dx[start:end].add_((dax @ a).mul_(keep[start:end]))
        return dx, None, None


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, keep: torch.Tensor | None, layers: list[Layer], mask: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ys = [nn.functional.linear(x, layer.weight, layer.bias) for layer in layers]
        dropped = x if keep is None else x * keep
        a = torch.cat([lora.a for layer in layers for _, _, lora in layer.parts])  # [layers * ranks, inputs]
        bs = [torch.cat([lora.b for _, _, lora in layer.parts], dim=1) for layer in layers]  # [outputs, ranks] each
        ax = (dropped @ a.T).mul_(mask)
        for y, own, b in zip(ys, ax.chunk(len(layers), dim=1), bs, strict=True):
            y.addmm_(own, b.T)
        ctx.save_for_backward(dropped, keep, a, ax, mask, *bs)
        ctx.layers = layers
        return tuple(ys)

    @staticmethod
    def backward(ctx: Any, *dys: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dropped, keep, a, ax, mask, *bs = ctx.saved_tensors
        layers: list[Layer] = ctx.layers
        weights = [lora for layer in layers for _, _, lora in layer.parts]
        ranks = [len(lora.a) for lora in weights]
        pieces = [dy @ b for dy, b in zip(dys, bs, strict=True)]
        dax = (pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)).mul_(mask)
        grads_b = [
            grad
            for dy, own, layer in zip(dys, ax.chunk(len(layers), dim=1), layers, strict=True)
            for grad in (dy.T @ own).split([len(lora.a) for _, _, lora in layer.parts], dim=1)
        ]
        torch._foreach_add_([lora.grad_b for lora in weights], grads_b)
        torch._foreach_add_([lora.grad_a for lora in weights], list((dax.T @ dropped).split(ranks)))
        dx = _frozen_backward(dys, layers)
        if keep is None:
            dx.addmm_(dax, a)
        else:
            dx.add_((dax @ a).mul_(keep))
        return dx, None, None, None


def _frozen_backward(dys: Sequence[torch.Tensor], layers: Sequence[Layer]) -> torch.Tensor:
    """Returns the gradient by the input through the frozen weights."""
    dx = dys[0] @ layers[0].weight
    for dy, layer in zip(dys[1:], layers[1:], strict=True):
        dx.addmm_(dy, layer.weight)
    return dx


_loop: Callable[..., Sequence[torch.Tensor]] = _Loop.apply
_grouped: Callable[..., Sequence[torch.Tensor]] = _Grouped.apply
