"""Computes one step's losses and gradients of several trials in shared passes, and attributes failures to trials."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch

from raytune_ft.hardware.out_of_memory import out_of_memory_reason
from raytune_ft.training.lane.ranks import Ranks
from raytune_ft.training.lane.step import Share, Stepper
from raytune_ft.training.lane.trial import RunningTrial


@dataclass(frozen=True)
class Together:
    """The result of one step of several trials, before the optimizers' steps.

    Attributes:
        losses: For each trial its loss over all ranks, or the reason if memory ran out for it.
        tokens: Number of tokens of this rank's rows.
        fit: Whether all trials together fitted into memory on every rank.
    """

    losses: list[float | str]
    tokens: int
    fit: bool


def step_together(stepper: Stepper, trials: Sequence[RunningTrial], ranks: Ranks) -> Together:
    """Adds the gradient of each trial's next step to its adapter."""
    shares = [trial.shares() for trial in trials]
    found, fit = _together(stepper, shares)
    reasons = [ranks.agree(each if isinstance(each, str) else None) for each in found]
    sums = torch.tensor([0.0 if isinstance(each, str) else each for each in found], dtype=torch.float64)
    return Together(
        losses=[reason or loss for reason, loss in zip(reasons, ranks.sum(sums).tolist(), strict=True)],
        tokens=sum(len(ids) for trial in shares for share in trial for ids, _ in share.rows),
        fit=ranks.agree(None if fit else "no") is None,
    )


def _together(stepper: Stepper, shares: Sequence[Sequence[Share]]) -> tuple[list[float | str], bool]:
    """Runs shared passes; if memory runs out, or one trial's NaN spoils the others, runs each trial alone.

    Returns:
        Each trial's loss on this rank, or the reason if memory ran out, and whether the shared passes fitted.
    """
    fit = True
    try:
        losses = _passes(stepper, shares)
    except (RuntimeError, MemoryError) as error:
        reason = out_of_memory_reason(error)
        if reason is None:
            raise
        _forget(shares)
        if len(shares) == 1:
            return [reason], True
        fit = False
    else:
        if len(shares) == 1 or _finite(losses, shares):
            return list(losses), True
        _forget(shares)  # a trial's NaN times the zeros that separate trials (masks, padding) is NaN in all
    return [each for alone in shares for each in _together(stepper, [alone])[0]], fit


def _passes(stepper: Stepper, shares: Sequence[Sequence[Share]]) -> list[float]:
    losses = [0.0] * len(shares)
    for together in zip_longest(*shares):
        present = [(i, share) for i, share in enumerate(together) if share is not None]
        for (i, _), loss in zip(present, stepper.gradients([share for _, share in present]), strict=True):
            losses[i] += loss
    return losses


def _finite(losses: Sequence[float], shares: Sequence[Sequence[Share]]) -> bool:
    norms = [torch.linalg.vector_norm(each[0].adapter.grad) for each in shares]  # cheaper than checking each element
    return all(map(math.isfinite, losses)) and bool(torch.stack(norms).isfinite().all())


def _forget(shares: Sequence[Sequence[Share]]) -> None:
    for each in shares:
        each[0].adapter.grad.zero_()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
