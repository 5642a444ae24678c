"""A trial's loss on the validation split, as transformers' Trainer defines it."""

from __future__ import annotations

import torch

from raytune_ft.training.guards import out_of_memory_reason
from raytune_ft.training.lane.ranks import Ranks
from raytune_ft.training.lane.step import Stepper
from raytune_ft.training.lane.trial import RunningTrial


def evaluate(stepper: Stepper, trial: RunningTrial, ranks: Ranks) -> float | str:
    """The mean over rows of their batch's mean token loss; the ranks share the batches.

    Returns:
        The loss, or the reason why there was no memory for it.
    """
    rows, batch = trial.splits.validation, trial.spec.experiment.train.per_device_eval_batch_size
    batches = [range(start, min(start + batch, len(rows))) for start in range(0, len(rows), batch)]
    total = torch.zeros(1, dtype=torch.float64)
    reason = None
    try:
        for members in batches[ranks.rank :: ranks.size]:
            losses = stepper.row_losses(trial.adapter, [rows[row] for row in members])
            total += losses.sum() / int(rows.answers[members.start : members.stop].sum()) * len(members)
    except (RuntimeError, MemoryError) as error:
        reason = out_of_memory_reason(error)
        if reason is None:
            raise
    if reason := ranks.agree(reason):
        return reason
    return float(ranks.sum(total)) / len(rows)
