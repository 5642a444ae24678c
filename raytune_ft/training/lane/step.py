"""Runs a forward and backward pass of a lane over the rows of one or several trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from raytune_ft.config.training import LaneStep
from raytune_ft.objectives.cross_entropy import token_losses
from raytune_ft.objectives.parts import LaneLoss
from raytune_ft.training.lane.model.adapter import Adapter
from raytune_ft.training.lane.model.base import Base
from raytune_ft.training.lane.model.pack import Pack
from raytune_ft.training.lane.packing.layout import Layout, lay_out

if TYPE_CHECKING:
    from raytune_ft.training.lane.packing.layout import EncodedRow


GROUPED_RANKS = 96
"""Sum of all trials' LoRA ranks up to which a CPU in bfloat16 is faster with one product than with one for each
trial."""


@dataclass(frozen=True)
class Share:
    """One trial's part of a pass.

    Attributes:
        adapter: The trial's adapter; gradients are added to `adapter.grad`.
        rows: The trial's rows on this rank.
        weight: Weight of each token's loss: the loss scale over the number of the step's answer tokens on all ranks.
        draw: Seeds dropout's masks; it differs between the passes of a trial.
    """

    adapter: Adapter
    rows: Sequence[EncodedRow]
    weight: float
    draw: int = 0


class Stepper:
    """Computes losses and gradients on one base.

    Args:
        base: The frozen model.
        settings: Switches of the training step.
        loss: The objective's loss.
    """

    def __init__(self, base: Base, settings: LaneStep, loss: LaneLoss = token_losses) -> None:
        self.base, self._settings, self._loss = base, settings, loss

    def gradients(self, shares: Sequence[Share]) -> list[float]:
        """Adds each trial's gradient to its adapter and returns each trial's sum of weighted token losses.

        Trials do not affect one another, because each row belongs to one trial, and so do the gradients through it.
        """
        layout = self._lay_out([share.rows for share in shares])
        adapters = [share.adapter for share in shares]
        pack = Pack(layout, adapters, self._grouped(adapters), [share.draw for share in shares])
        try:
            losses, owner = self._losses(pack)
            weights = torch.tensor([share.weight for share in shares], dtype=torch.float32, device=losses.device)
            total = torch.zeros(len(shares), device=losses.device).index_add(0, owner, losses * weights[owner])
            total.sum().backward()  # type: ignore[no-untyped-call]
        finally:
            self.base.current.pack = None
        return [float(each) for each in total.detach()]

    @torch.no_grad()
    def loss_sum(self, adapter: Adapter | None, rows: Sequence[EncodedRow]) -> float:
        """Returns the sum of the token losses of all rows, without dropout; with None as the adapter, the base's."""
        layout = self._lay_out([rows])
        pack = Pack(layout, [adapter]) if adapter else Pack(replace(layout, segments=()), [])
        try:
            losses, _ = self._forward(pack)
        finally:
            self.base.current.pack = None
        return float(losses.double().sum())

    def _grouped(self, adapters: Sequence[Adapter]) -> bool:
        few = sum(adapter.method.r for adapter in adapters) <= GROUPED_RANKS
        return self.base.grouped or (self.base.dtype == torch.bfloat16 and few)

    def _losses(self, pack: Pack) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the token losses, and the index of the trial of each."""
        losses, positions = self._forward(pack)
        ends = torch.tensor([end for _, end in pack.layout.segments], device=losses.device)
        return losses, torch.searchsorted(ends, positions, right=True)

    def _forward(self, pack: Pack) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.base.hidden_states(pack)
        everywhere = not self._settings.loss_positions_only
        return self._loss(hidden, self.base.head(), pack.layout.targets, everywhere=everywhere)

    def _lay_out(self, trials: Sequence[Sequence[EncodedRow]]) -> Layout:
        settings = self._settings
        return lay_out(
            trials, round_to=settings.round_tokens, padding_free=settings.padding_free, device=self.base.device
        )
