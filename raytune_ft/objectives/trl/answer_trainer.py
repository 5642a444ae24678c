"""A TRL SFTTrainer whose `eval_loss` is the mean over the answers' tokens, whatever the batches and workers are.

transformers' own `eval_loss` weighs each batch's mean by its rows, so that it depends on `per_device_eval_batch_size`
and on the number of workers. Read against TRL 1.16, whose added head returns the log-probability of each token without
a row's logits.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import EvalPrediction
from trl.trainer.sft_trainer import SFTTrainer


class AnswerTrainer(SFTTrainer):
    """Gathers each row's sum of losses and number of tokens; rows that pad the last batch are not counted twice."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments, compute_metrics=_mean)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """Returns no loss of the batch, but each row's sum of token losses, float64, [rows], and its tokens, [rows]."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**inputs, fused_lm_head=True)
        return None, -outputs.log_probs.double().sum(1), outputs.label_mask.sum(1)


def _mean(rows: EvalPrediction) -> dict[str, float]:
    losses: Any = rows.predictions
    tokens: Any = rows.label_ids
    return {"loss": float(losses.sum() / tokens.sum())}
