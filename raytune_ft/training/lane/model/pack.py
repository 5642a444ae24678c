"""The trials of one forward pass, as the layers that they share see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from raytune_ft.training.lane.model.adapter import Adapter, LoraWeights
from raytune_ft.training.lane.packing.layout import Layout

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
        ready: Outputs that wait for the layers that they are of, and what they were computed from, by `Siblings`.
    """

    layout: Layout
    adapters: Sequence[Adapter]
    grouped: bool = False
    draws: Sequence[int] | None = None
    ready: dict[int, tuple[torch.Tensor, dict[str, torch.Tensor]]] = field(default_factory=dict)
    _masks: dict[Any, torch.Tensor] = field(default_factory=dict)

    def parts(self, name: str) -> list[Part]:
        """Of the trials that have an adapter there; what dropout leaves is scaled up to what it was."""
        return [
            (start, end, adapter.layers[name] if self.draws is None else adapter.layers[name].dropping(adapter.method))
            for (start, end), adapter in zip(self.layout.segments, self.adapters, strict=True)
            if name in adapter.layers
        ]

    @property
    def drops(self) -> bool:
        """Whether any trial's dropout is at work."""
        return self.draws is not None and any(adapter.method.dropout for adapter in self.adapters)

    def mask(self, parts: Sequence[Part], times: int, like: torch.Tensor) -> torch.Tensor:
        """[tokens of `like`, `times` * sum of ranks]: a trial's scale where its tokens meet its ranks, else zero."""
        key = (times, *((start, end, len(weights.a), weights.scale) for start, end, weights in parts))
        if key not in self._masks:
            # float32, as a scale that the base's dtype would round would train another adapter than is evaluated
            mask = torch.zeros(len(like), sum(len(weights.a) for _, _, weights in parts), dtype=torch.float32)
            column = 0
            for start, end, weights in parts:
                mask[start:end, column : column + len(weights.a)] = weights.scale
                column += len(weights.a)
            self._masks[key] = mask.repeat(1, times).to(like.device)
        return self._masks[key]

    def dropout(self, name: str, x: torch.Tensor) -> torch.Tensor | None:
        """1 where x is kept for the adapters, [tokens, inputs], else 0; None where no trial drops anything.

        That less is kept, `parts` makes up for: the base's dtype would round 1 / (1 - rate).
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
    """The pack that the layers of one base work for; None is the base alone."""

    pack: Pack | None = None
