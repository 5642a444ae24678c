"""A pack: the trials of one forward pass, as the shared layers need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from raytune_ft.training.lane.model.adapter import Adapter, LoraWeights
from raytune_ft.training.lane.packing.layout import Layout

Part = tuple[int, int, LoraWeights]
"""The [start, end) of a trial's tokens, and its matrices for one layer."""


@dataclass
class Pack:
    """The trials of one forward pass.

    Attributes:
        layout: The rows of all trials; `layout.segments` has one entry for each of `adapters`.
        adapters: One adapter for each trial.
        grouped: Whether all trials' matrices are multiplied at once; see `products`.
        draws: One number for each trial that seeds dropout's masks, so that they are equal when a layer runs again;
            None in evaluation, which has no dropout.
        ready: For each `Siblings`, the input and the outputs that its other layers have not fetched yet.
    """

    layout: Layout
    adapters: Sequence[Adapter]
    grouped: bool = False
    draws: Sequence[int] | None = None
    ready: dict[int, tuple[torch.Tensor, dict[str, torch.Tensor]]] = field(default_factory=dict)
    _masks: dict[Any, torch.Tensor] = field(default_factory=dict)

    def parts(self, name: str) -> list[Part]:
        """Returns the parts of the trials that adapt the layer `name`; their scale makes up for dropout."""
        return [
            (start, end, adapter.layers[name] if self.draws is None else adapter.layers[name].dropping(adapter.method))
            for (start, end), adapter in zip(self.layout.segments, self.adapters, strict=True)
            if name in adapter.layers
        ]

    @property
    def drops(self) -> bool:
        """Whether any trial uses dropout in this pass."""
        return self.draws is not None and any(adapter.method.dropout for adapter in self.adapters)

    def mask(self, parts: Sequence[Part], times: int, like: torch.Tensor) -> torch.Tensor:
        """Returns a mask that keeps each trial's tokens to its own ranks, float32, [tokens, times * sum of ranks].

        It holds the trial's scale where its tokens meet its ranks, and zero elsewhere.

        Args:
            parts: The trials that adapt the layers.
            times: Number of layers that share the mask.
            like: A tensor of as many tokens, on the device of the mask.
        """
        key = (times, *((start, end, len(weights.a), weights.scale) for start, end, weights in parts))
        if key not in self._masks:
            # In float32, because rounding the scale to the base's dtype would train another adapter than is evaluated.
            mask = torch.zeros(len(like), sum(len(weights.a) for _, _, weights in parts), dtype=torch.float32)
            column = 0
            for start, end, weights in parts:
                mask[start:end, column : column + len(weights.a)] = weights.scale
                column += len(weights.a)
            self._masks[key] = mask.repeat(1, times).to(like.device)
        return self._masks[key]

    def dropout(self, name: str, x: torch.Tensor) -> torch.Tensor | None:
        """Returns dropout's mask for the adapters' input, 1 to keep and 0 to drop, [tokens, inputs]; None if unused.

        The factor 1 / (1 - rate) is in the scale of `parts`, because the base's dtype would round it here.
        """
        if self.draws is None or not self.drops:
            return None
        keep = torch.ones_like(x)
        for (start, end), adapter, draw in zip(self.layout.segments, self.adapters, self.draws, strict=True):
            if (rate := adapter.method.dropout) and name in adapter.layers:
                seed = hash((adapter.seed, draw, *name.encode())) & (2**63 - 1)
                generator = torch.Generator(x.device).manual_seed(seed)
                drawn = torch.rand(end - start, x.shape[1], generator=generator, device=x.device)
                keep[start:end] = drawn >= rate
        return keep


@dataclass
class Current:
    """Holds the pack that the layers of one base currently compute; None means the base without adapters."""

    pack: Pack | None = None
