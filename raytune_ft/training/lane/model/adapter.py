"""One trial's LoRA matrices in a single float32 vector, so that clipping, optimizer and collectives see one tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raytune_ft.config.methods.lora import Lora

if TYPE_CHECKING:
    import torch

ALIGN = 64  # elements, so that each matrix starts on a cache line and vectors split evenly over ranks
PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Projection:
    """A linear module of the base: its name, and its numbers of inputs and outputs."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class LoraWeights:
    """The two matrices of one projection, as views of the adapter's vectors.

    Attributes:
        a: [r, inputs], in the base's dtype.
        b: [outputs, r], in the base's dtype.
        grad_a: [r, inputs], float32.
        grad_b: [outputs, r], float32.
        scale: Factor of the product b a x.
    """

    a: torch.Tensor
    b: torch.Tensor
    grad_a: torch.Tensor
    grad_b: torch.Tensor
    scale: float

    def dropping(self, method: Lora) -> LoraWeights:
        """Returns the weights with a scale that makes up for inputs dropped by dropout."""
        return replace(self, scale=_float32(self.scale / (1.0 - method.dropout))) if method.dropout else self


class Adapter:
    """Master weights, gradient and working copy of one trial's adapter.

    It is initialised as PEFT does it (`a` uniform as by He et al. 2015, `b` zero), from its own seed.

    Args:
        projections: The target modules, in the base's order.
        method: Rank, scale and dropout.
        seed: Seed of `a` and of dropout.
        dtype: The base's dtype, which the working copy has.
        device: Device of all tensors.

    Attributes:
        weights: The master weights, float32, [n].
        grad: Their gradient, float32, [n].
        layers: Name of a projection -> its matrices.
    """

    def __init__(
        self, projections: Sequence[Projection], method: Lora, seed: int, dtype: torch.dtype, device: str
    ) -> None:
        import torch

        self.method, self.seed = method, seed
        self.projections = tuple(projections)
        self._places = _places(self.projections, method.r)
        size = self._places[-1][1] if self._places else 0
        self.weights = torch.zeros(_aligned(size), dtype=torch.float32)
        generator = torch.Generator().manual_seed(seed)
        for projection, (start, _) in zip(self.projections, self._places, strict=True):
            bound = 1.0 / math.sqrt(projection.inputs)
            self.weights[start : start + method.r * projection.inputs].uniform_(-bound, bound, generator=generator)
        self.weights = self.weights.to(device)
        self.grad = torch.zeros_like(self.weights)
        self._working = self.weights if dtype == torch.float32 else self.weights.to(dtype)
        scale = method.alpha / (math.sqrt(method.r) if method.use_rslora else method.r)
        self.scale = _float32(scale)
        self.layers = {
            projection.name: self._views(projection, start)
            for projection, (start, _) in zip(self.projections, self._places, strict=True)
        }

    def refresh(self) -> None:
        """Updates the working copy after the master weights have changed."""
        if self._working.data_ptr() != self.weights.data_ptr():
            self._working.copy_(self.weights)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the tensors of `to_peft` by PEFT's names."""
        return {name: tuple(view.shape) for name, view in self._named(self.weights)}

    def to_peft(self) -> dict[str, torch.Tensor]:
        """Returns the weights by PEFT's names, as float32 copies on the CPU."""
        return {name: view.detach().cpu().clone() for name, view in self._named(self.weights)}

    def from_peft(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Loads weights by PEFT's names; raises ValueError if names or shapes are not this adapter's."""
        named = dict(self._named(self.weights))
        if named.keys() != tensors.keys() or any(tensors[name].shape != view.shape for name, view in named.items()):
            raise ValueError(
                f"the file's {len(tensors)} tensors are not the adapter's {len(named)}, of rank {self.method.r}"
            )
        for name, view in named.items():
            view.copy_(tensors[name])
        self.refresh()

    def _named(self, vector: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
        named = []
        for projection, (start, _) in zip(self.projections, self._places, strict=True):
            a, b = _matrices(vector, projection, start, self.method.r)
            named.append((f"{PEFT_PREFIX}{projection.name}.lora_A.weight", a))
            named.append((f"{PEFT_PREFIX}{projection.name}.lora_B.weight", b))
        return named

    def _views(self, projection: Projection, start: int) -> LoraWeights:
        a, b = _matrices(self._working, projection, start, self.method.r)
        grad_a, grad_b = _matrices(self.grad, projection, start, self.method.r)
        return LoraWeights(a, b, grad_a, grad_b, self.scale)


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _float32(scale: float) -> float:
    """Clips the scale to what a float32 can hold; torch would refuse more."""
    import torch

    return min(scale, torch.finfo(torch.float32).max)


def _places(projections: Sequence[Projection], r: int) -> list[tuple[int, int]]:
    """Returns the [start, end) in the vector for each of the projections' two matrices."""
    places, at = [], 0
    for projection in projections:
        end = at + _aligned(r * projection.inputs) + _aligned(r * projection.outputs)
        places.append((at, end))
        at = end
    return places


def _matrices(vector: torch.Tensor, projection: Projection, start: int, r: int) -> tuple[torch.Tensor, torch.Tensor]:
    middle = start + _aligned(r * projection.inputs)
    a = vector[start : start + r * projection.inputs].view(r, projection.inputs)
    return a, vector[middle : middle + projection.outputs * r].view(projection.outputs, r)
