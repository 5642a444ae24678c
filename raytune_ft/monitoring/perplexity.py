"""Computes the tuned model's perplexity of rows, separately for inputs and answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.data.tokens.tokenize import IGNORED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PART_ANSWER, PART_INPUT = "answer", "input"


@dataclass(frozen=True)
class TokenRow:
    """One tokenised row."""

    input_ids: list[int]
    labels: list[int]
    """`input_ids` for the tokens of the answer, -100 elsewhere."""

    def input(self) -> list[int]:
        """Returns the token ids before the last answer; the whole row if every token has a loss."""
        end = len(self.labels)
        while end > 0 and self.labels[end - 1] == IGNORED:
            end -= 1
        while end > 0 and self.labels[end - 1] != IGNORED:
            end -= 1
        return self.input_ids[:end] or self.input_ids

    def of_part(self, part: str, end_token: int) -> TokenRow | None:
        """Returns the row with a loss on one part only, or None if that part has no token.

        The end token does not belong to the answer, because a log doesn't tell whether an answer ended or was cut.

        Args:
            part: `input` or `answer`.
            end_token: Id of the end token.
        """
        if part == PART_INPUT:
            size = len(self.input())
            labels = [*self.input_ids[:size], *([IGNORED] * (len(self.input_ids) - size))]
        else:
            labels = list(self.labels)
            if self.input_ids[-1] == end_token:
                labels[-1] = IGNORED
        return TokenRow(self.input_ids, labels) if any(label != IGNORED for label in labels[1:]) else None


class PerplexityScorer:
    """Scores rows with the base and one adapter, or with a merged version, which is loaded once.

    Args:
        experiment: The experiment, which names the base and the number type.
        directory: Directory of the PEFT adapter or of the merged model.
        tokenizer: The base's tokenizer.
    """

    def __init__(self, experiment: Experiment, directory: Path, tokenizer: Any) -> None:
        from raytune_ft.hardware.here import in_type_of_this_machine
        from raytune_ft.methods.weights.base_model import placed
        from raytune_ft.methods.weights.tuned import load_tuned

        self._model: Any = placed(load_tuned(in_type_of_this_machine(experiment), directory))
        self._batch_size, self._tokenizer = experiment.evaluate.batch_size, tokenizer

    def losses(
        self, rows: Sequence[TokenRow], part: str, progress: Callable[[int, int], None] = lambda done, rows: None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns the mean loss in nats and the number of tokens of each row that has the part."""
        from datasets import Dataset

        from raytune_ft.objectives.scoring.answers import score_answers

        kept = [found for row in rows if (found := row.of_part(part, self._tokenizer.eos_token_id))]
        table = Dataset.from_dict({"input_ids": [r.input_ids for r in kept], "labels": [r.labels for r in kept]})
        scores = score_answers(self._model, table, self._tokenizer.pad_token_id, self._batch_size, progress)
        return scores.loss, scores.tokens
