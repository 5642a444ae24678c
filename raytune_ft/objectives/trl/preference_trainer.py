"""A TRL DPOTrainer that reads prepared columns, and reports metrics that need no reference model.

Rows are tokenised once per study: TRL's `_prepare_dataset`, which would render and tokenise the text of every trial
anew, is replaced by one that takes the columns `prompt_ids`, `chosen_ids` and `rejected_ids` as they are. Its collator
and its losses read nothing else. Read against TRL 1.16; where a later one calls the method otherwise, the trial fails
at its start with TRL's own error about missing columns, and nothing is trained on other tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import EvalPrediction
from trl.trainer.dpo_trainer import DPOTrainer


class PreferenceTrainer(DPOTrainer):
    """Gathers, in evaluation, each row's sum of log-probabilities and number of tokens of both answers."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments, compute_metrics=_preferences)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """Returns the loss, [], and each row's sums, float64, [rows, 2], with its tokens, [rows, 2]."""
        inputs = self._prepare_inputs(inputs)
        found: list[Any] = []
        # The policy's pass is the first of the loss, the reference's the second.
        watch = model.register_forward_hook(lambda module, args, outputs: found.append(outputs.log_probs))
        try:
            with torch.no_grad(), self.compute_loss_context_manager():
                loss = self.compute_loss(model, inputs)  # type: ignore[no-untyped-call]
        finally:
            watch.remove()
        mask = inputs["completion_mask"][:, 1:]
        sums = (found[0][:, -mask.shape[1] :].double() * mask).sum(1)
        chosen, rejected = sums.chunk(2)
        of_chosen, of_rejected = mask.sum(1).chunk(2)
        return loss, torch.stack([chosen, rejected], 1), torch.stack([of_chosen, of_rejected], 1)


def _preferences(rows: EvalPrediction) -> dict[str, float]:
    """Returns the metrics over all rows, whatever the batches and the number of workers are."""
    sums: Any = rows.predictions
    tokens: Any = rows.label_ids
    of_a_token = sums / tokens
    return {
        "preference_accuracy": float((of_a_token[:, 0] > of_a_token[:, 1]).mean()),
        "chosen_loss": float(-sums[:, 0].sum() / tokens[:, 0].sum()),
    }
