"""Norms and gates of the Llama family with hand-written backward passes, which need fewer operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

import torch
from torch import nn

PIECE = 512  # rows of a norm that are computed at once
_PLAIN_NORM = {"LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "MistralRMSNorm"}  # weight * x / rms(x)
_SILU = {"SiLU", "SiLUActivation"}  # torch's, and transformers' equivalent


def fuse(model: Any) -> int:
    """Replaces the forward pass of each known module; returns their number."""
    replaced = 0
    for module in model.modules():
        if type(module).__name__ in _PLAIN_NORM:
            module.forward = MethodType(_norm_forward, module)
        elif _is_silu_gate(module):
            module.forward = MethodType(_gate_forward, module)
        else:
            continue
        replaced += 1
    return replaced


def _is_silu_gate(module: Any) -> bool:
    names = ("gate_proj", "up_proj", "down_proj")
    activation = type(getattr(module, "act_fn", None)).__name__
    return all(hasattr(module, name) for name in names) and activation in _SILU


def _norm_forward(module: Any, x: torch.Tensor) -> torch.Tensor:
    return _rms_norm(x, module.weight, module.variance_epsilon)


def _gate_forward(module: Any, x: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = module.down_proj(_silu_gate(module.gate_proj(x), module.up_proj(x)))
    return y


class _RmsNorm(torch.autograd.Function):
    """RMS norm, computed in pieces that fit into a core's cache."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        y, inverse = x.new_empty(x.shape), x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)
        for x_piece, y_piece, inverse_piece in _pieces(x, y, inverse):
            wide = x_piece.float()
            norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
            inverse_piece.copy_(norm.div_(x.shape[-1]).add_(epsilon).rsqrt_())
            torch.mul((wide * inverse_piece).to(x.dtype), weight, out=y_piece)
        ctx.save_for_backward(x, weight, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (dy,) = grads
        x, weight, inverse = ctx.saved_tensors
        dx = x.new_empty(x.shape)
        for dy_piece, x_piece, inverse_piece, dx_piece in _pieces(dy, x, inverse, dx):
            dhat = (dy_piece * weight).float()
            hat = x_piece.float() * inverse_piece
            mean = torch.linalg.vecdot(dhat, hat).unsqueeze(-1).div_(x.shape[-1])
            dx_piece.copy_(dhat.addcmul_(hat, mean, value=-1.0).mul_(inverse_piece))
        return dx, None, None


def _pieces(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yields views of at most PIECE rows of each tensor on a CPU, and all rows at once on a GPU."""
    flat = [tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors]
    rows = PIECE if flat[0].device.type == "cpu" else max(1, len(flat[0]))
    cuts = list(range(rows, len(flat[0]), rows))
    return zip(*(torch.tensor_split(each, cuts) for each in flat), strict=True)


class _SiluGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (dy,) = grads
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(dy * up, gate), nn.functional.silu(gate).mul_(dy)


_rms_norm: Callable[..., torch.Tensor] = _RmsNorm.apply
_silu_gate: Callable[..., torch.Tensor] = _SiluGate.apply
