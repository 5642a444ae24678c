"""The linear layer that all trials share: the frozen product once over all rows, each trial's matrices on its own.

Two ways to the same numbers. `loop` multiplies each trial's rows by its matrices: the fewest operations, best on CPUs.
`grouped` puts the matrices of all trials below one another and multiplies once, with the columns of other trials' ranks
set to zero: no loop over trials, best on GPUs, where small products leave the chip idle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from raytune_ft.training.lane.adapter import Adapter, LoraWeights
from raytune_ft.training.lane.layout import Layout

Part = tuple[int, int, LoraWeights]
"""[start, end) of a trial's tokens, and its matrices."""


@dataclass
class Pack:
    """The trials of one forward pass.

    Attributes:
        layout: Their rows; `layout.segments` and `adapters` go together.
        adapters: One a trial.
        grouped: Which of the two ways.
        draws: One a trial, from which dropout's masks are made, so that they are the same when a layer runs again; None
            in evaluation, which drops nothing.
    """

    layout: Layout
    adapters: Sequence[Adapter]
    grouped: bool = False
    draws: Sequence[int] | None = None
    _masks: dict[Any, torch.Tensor] = field(default_factory=dict)

    def parts(self, name: str) -> list[Part]:
        """Of the trials that have an adapter there."""
        return [
            (start, end, adapter.layers[name])
            for (start, end), adapter in zip(self.layout.segments, self.adapters, strict=True)
            if name in adapter.layers
        ]

    def mask(self, parts: Sequence[Part], tokens: int, like: torch.Tensor) -> torch.Tensor:
        """[tokens, sum of ranks]: a trial's scale where its tokens meet its ranks, else zero."""
        key = tuple((start, end, len(weights.a), weights.scale) for start, end, weights in parts)
        if key not in self._masks:
            mask = torch.zeros(tokens, sum(len(weights.a) for _, _, weights in parts), dtype=like.dtype)
            column = 0
            for start, end, weights in parts:
                mask[start:end, column : column + len(weights.a)] = weights.scale
                column += len(weights.a)
            self._masks[key] = mask.to(like.device)
        return self._masks[key]

    def dropout(self, name: str, x: torch.Tensor) -> torch.Tensor | None:
        """What x is multiplied by before the adapters, [tokens, inputs], or None where no trial drops anything."""
        if self.draws is None or not any(adapter.method.dropout for adapter in self.adapters):
            return None
        keep = torch.ones_like(x)
        for (start, end), adapter, draw in zip(self.layout.segments, self.adapters, self.draws, strict=True):
            if (rate := adapter.method.dropout) and name in adapter.layers:
                seed = hash((adapter.seed, draw, *name.encode())) & (2**63 - 1)
                generator = torch.Generator(x.device).manual_seed(seed)
                drawn = torch.rand(end - start, x.shape[1], generator=generator, device=x.device)
                keep[start:end] = (drawn >= rate).to(x.dtype) / (1.0 - rate)
        return keep


@dataclass
class Current:
    """The pack that the layers of one base work for; None is the base alone."""

    pack: Pack | None = None


class LoraLinear(nn.Module):
    """A frozen linear module that adds the current pack's adapters.

    Args:
        linear: The module to stand for.
        name: Its path in the base.
        current: Shared by all layers of the base.
    """

    def __init__(self, linear: nn.Linear, name: str, current: Current) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._name, self._current = name, current

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., inputs] -> [..., outputs]."""
        pack = self._current.pack
        parts = pack.parts(self._name) if pack else []
        if pack is None or not parts:
            return nn.functional.linear(x, self.weight, self.bias)
        flat = x.reshape(-1, x.shape[-1])
        keep = pack.dropout(self._name, flat)
        if pack.grouped and len(parts) > 1:
            mask = pack.mask(parts, len(flat), flat)
            y = _grouped(flat, self.weight, self.bias, keep, parts, mask)
        else:
            y = _loop(flat, self.weight, self.bias, keep, parts)
        return y.view(*x.shape[:-1], -1)


class _Loop(torch.autograd.Function):
    """Gradients of the matrices are added to the adapters' own vectors, not handed to autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        keep: torch.Tensor | None,
        parts: list[Part],
    ) -> torch.Tensor:
        y = nn.functional.linear(x, weight, bias)
        dropped = x if keep is None else x * keep
        inner = []
        for start, end, lora in parts:
            ax = dropped[start:end] @ lora.a.T
            y[start:end].addmm_(ax, lora.b.T, alpha=lora.scale)
            inner.append(ax)
        ctx.save_for_backward(dropped, weight, keep, *inner)
        ctx.parts = parts
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (dy,) = grads
        dropped, weight, keep, *inner = ctx.saved_tensors
        dx = dy @ weight
        for (start, end, lora), ax in zip(ctx.parts, inner, strict=True):
            dy_part, x_part = dy[start:end], dropped[start:end]
            dax = (dy_part @ lora.b).mul_(lora.scale)
            lora.grad_b.add_(dy_part.T @ ax, alpha=lora.scale)
            lora.grad_a.add_(dax.T @ x_part)
            if keep is None:
                dx[start:end].addmm_(dax, lora.a)
            else:
                dx[start:end].add_((dax @ lora.a).mul_(keep[start:end]))
        return dx, None, None, None, None


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        keep: torch.Tensor | None,
        parts: list[Part],
        mask: torch.Tensor,
    ) -> torch.Tensor:
        y = nn.functional.linear(x, weight, bias)
        dropped = x if keep is None else x * keep
        a = torch.cat([lora.a for _, _, lora in parts])  # [ranks, inputs]
        b = torch.cat([lora.b for _, _, lora in parts], dim=1)  # [outputs, ranks]
        ax = (dropped @ a.T).mul_(mask)
        y.addmm_(ax, b.T)
        ctx.save_for_backward(dropped, weight, keep, a, b, ax, mask)
        ctx.parts = parts
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (dy,) = grads
        dropped, weight, keep, a, b, ax, mask = ctx.saved_tensors
        dax = (dy @ b).mul_(mask)
        ranks = [len(lora.a) for _, _, lora in ctx.parts]
        grads_b = [each.float() for each in (dy.T @ ax).split(ranks, dim=1)]
        grads_a = [each.float() for each in (dax.T @ dropped).split(ranks)]
        torch._foreach_add_([lora.grad_b for _, _, lora in ctx.parts], grads_b)
        torch._foreach_add_([lora.grad_a for _, _, lora in ctx.parts], grads_a)
        dx = dy @ weight
        if keep is None:
            dx.addmm_(dax, a)
        else:
            dx.add_((dax @ a).mul_(keep))
        return dx, None, None, None, None, None


_loop: Callable[..., torch.Tensor] = _Loop.apply
_grouped: Callable[..., torch.Tensor] = _Grouped.apply
