"""Norms and gates of the Llama family with backward passes of their own: fewer operations on the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import nn

_PLAIN_NORM = {"LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "MistralRMSNorm"}  # weight * x / rms(x)


def fuse(model: Any) -> int:
    """Replaces the forward pass of the modules it knows; returns how many."""
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
    return all(hasattr(module, name) for name in names) and isinstance(getattr(module, "act_fn", None), nn.SiLU)


def _norm_forward(module: Any, x: torch.Tensor) -> torch.Tensor:
    return _rms_norm(x, module.weight, module.variance_epsilon)


def _gate_forward(module: Any, x: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = module.down_proj(_silu_gate(module.gate_proj(x), module.up_proj(x)))
    return y


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        wide = x.float()
        inverse = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
        inverse.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        y: torch.Tensor = (wide * inverse).to(x.dtype).mul_(weight)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (dy,) = grads
        x, weight, inverse = ctx.saved_tensors
        dhat = (dy * weight).float()
        hat = x.float() * inverse
        mean = torch.linalg.vecdot(dhat, hat).unsqueeze(-1).div_(x.shape[-1])
        return dhat.addcmul_(hat, mean, value=-1.0).mul_(inverse).to(x.dtype), None, None


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
