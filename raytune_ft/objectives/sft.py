"""Supervised fine-tuning: answers to questions, and the cross entropy of their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.methods.facts import Artefact
from raytune_ft.data.arrow_rows import ArrowRows
from raytune_ft.data.bad_rows import BadRows
from raytune_ft.data.encoding import EncodedRow
from raytune_ft.data.rows import Row
from raytune_ft.data.tokens.template import ChatTemplate
from raytune_ft.data.tokens.tokenize import RowTokeniser
from raytune_ft.objectives.parts import Answered, LaneLoss, Lengths, Scoring, TrainerParts
from raytune_ft.objectives.scoring.answers import score_answers
from raytune_ft.objectives.scoring.scores import Scores

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class _Encoder:
    """Makes `input_ids` and `labels` of each row."""

    columns = ("input_ids", "labels")

    def __init__(self, tokenizer: PreTrainedTokenizerBase, experiment: Experiment) -> None:
        data = experiment.data
        self.template = ChatTemplate(tokenizer) if data.format.chat else None
        everywhere = not experiment.objective.marks_answers
        self._tokeniser = RowTokeniser(tokenizer, self.template, data.max_length, everywhere)

    def rows(self, rows: Sequence[Row], bad_rows: BadRows) -> Iterator[tuple[Row, EncodedRow | None]]:
        """Yields each row with its columns, or None if no token of it has a loss."""
        for row, tokens in self._tokeniser.rows(rows, bad_rows):
            if tokens is None:
                yield row, None
            else:
                columns = {"input_ids": tokens.input_ids, "labels": tokens.labels}
                yield row, EncodedRow(columns, len(tokens.input_ids), tokens.cut)


def encoder(tokenizer: PreTrainedTokenizerBase, experiment: Experiment) -> _Encoder:
    """Returns the encoder of answers: one sequence a row, with a loss on the answer, or on all of it."""
    return _Encoder(tokenizer, experiment)


def trainer(parts: TrainerParts) -> Any:
    """Returns TRL's SFTTrainer on the prepared rows, whose `eval_loss` is the mean over the answers' tokens."""
    from trl.trainer.sft_config import SFTConfig

    from raytune_ft.objectives.trl.answer_trainer import AnswerTrainer

    prepared: dict[str, Any] = {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}
    return AnswerTrainer(args=SFTConfig(**parts.arguments, **prepared), **parts.for_trl())


def lane_loss() -> LaneLoss | None:
    """Returns the cross entropy at the positions that have a target."""
    from raytune_ft.objectives.cross_entropy import token_losses

    return token_losses


def further_models(artefact: Artefact) -> int:
    """Returns 0: nothing but the model is needed."""
    return 0


def score(model: Any, rows: Any, how: Scoring) -> Scores:
    """Returns the loss of each row's answer and, with labels, the likeliest of them."""
    return score_answers(model, rows, how.pad_token_id, how.batch_size, how.progress, how.labels, how.log)


def answered(row: Mapping[str, Any]) -> Answered:
    """Returns the row's own columns."""
    return Answered(list(row["input_ids"]), list(row["labels"]))


def lengths(split: Path) -> Lengths:
    """Returns the rows' lengths, and those of their answers."""
    rows = ArrowRows(split)
    return Lengths(rows.lengths, rows.answers)


def words(experiment: Experiment) -> str:
    """Returns what was trained for, as a clause."""
    where = "the answers" if experiment.objective.marks_answers else "all tokens"
    return f"supervised fine-tuning (sft), with a loss on {where}"
