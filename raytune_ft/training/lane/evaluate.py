"""Computes a trial's loss on the validation split, as the mean over the answers' tokens, whatever the batches are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from raytune_ft.hardware.out_of_memory import out_of_memory_reason
from raytune_ft.training.lane.model.adapter import Adapter
from raytune_ft.training.lane.ranks import Ranks
from raytune_ft.training.lane.sizes import EVALUATION_TOKENS
from raytune_ft.training.lane.step import Stepper
from raytune_ft.training.lane.trial import RunningTrial

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def evaluate(stepper: Stepper, trial: RunningTrial, ranks: Ranks) -> float | str:
    """Returns the trial's validation loss, or the reason if memory ran out."""
    return _evaluate(stepper, trial, ranks, trial.adapter)


def evaluate_base(stepper: Stepper, trial: RunningTrial, ranks: Ranks) -> float | str:
    """Returns the same without the adapter, which is the base's loss; it is shown as the trial's progress."""
    return _evaluate(stepper, trial, ranks, None)


def _evaluate(stepper: Stepper, trial: RunningTrial, ranks: Ranks, adapter: Adapter | None) -> float | str:
    """Evaluates a part of the batches on each rank, and adds up the sums of token losses over the ranks."""
    rows, batch = trial.splits.validation, trial.spec.experiment.train.per_device_eval_batch_size
    batches = [range(start, min(start + batch, len(rows))) for start in range(0, len(rows), batch)]
    total = torch.zeros(1, dtype=torch.float64)
    reason = None
    passes = _passes(batches[ranks.rank :: ranks.size], rows.lengths)
    try:
        for done, together in enumerate(passes):
            if trial.progress:
                trial.progress.evaluating(trial.step, done / len(passes))
            total += stepper.loss_sum(adapter, [rows[row] for members in together for row in members])
    except (RuntimeError, MemoryError) as error:
        reason = out_of_memory_reason(error)
        if reason is None:
            raise
    if reason := ranks.agree(reason):
        return reason
    if trial.progress:
        trial.progress.evaluating(trial.step, 1.0)
    return float(ranks.sum(total)) / int(rows.answers.sum())


def _passes(batches: Sequence[range], lengths: NDArray[np.int64]) -> list[list[range]]:
    """Batches one after the other, as many in a pass as have `EVALUATION_TOKENS` tokens together, and at least one."""
    passes: list[list[range]] = []
    tokens = 0
    for members in batches:
        more = int(lengths[members.start : members.stop].sum())
        if not passes or tokens + more > EVALUATION_TOKENS:
            passes.append([])
            tokens = 0
        passes[-1].append(members)
        tokens += more
    return passes
