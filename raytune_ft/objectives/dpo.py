"""Direct preference optimisation: a chosen and a rejected answer to one question, by TRL's DPOTrainer.

The reference model is the base: with an adapter, the model with the adapter switched off, so that no second one is
held. TRL does that for an adapter that it adds itself, which is why the trainer gets the base and the adapter's config.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.methods.facts import Artefact
from raytune_ft.config.objectives.dpo import Dpo
from raytune_ft.data.arrow_rows import column_lengths
from raytune_ft.data.bad_rows import BadRows
from raytune_ft.data.encoding import EncodedRow
from raytune_ft.data.rows import Preference, Row
from raytune_ft.data.tokens.preferences import PreferenceTokeniser
from raytune_ft.data.tokens.template import ChatTemplate
from raytune_ft.data.tokens.tokenize import IGNORED
from raytune_ft.objectives.parts import Answered, LaneLoss, Lengths, Scoring, TrainerParts
from raytune_ft.objectives.scoring.preferences import score_preferences
from raytune_ft.objectives.scoring.scores import Scores

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class _Encoder:
    """Makes `prompt_ids`, `chosen_ids` and `rejected_ids` of each row, by TRL's names."""

    columns = ("prompt_ids", "chosen_ids", "rejected_ids")

    def __init__(self, tokenizer: PreTrainedTokenizerBase, experiment: Experiment) -> None:
        data = experiment.data
        self.template = ChatTemplate(tokenizer) if data.format.chat else None
        self._tokeniser = PreferenceTokeniser(tokenizer, self.template, data.max_length)

    def rows(self, rows: Sequence[Row], bad_rows: BadRows) -> Iterator[tuple[Row, EncodedRow | None]]:
        """Yields each row with its columns, or None if an answer does not fit behind a part of its question."""
        pairs = [row for row in rows if isinstance(row, Preference)]
        for row, found in self._tokeniser.rows(pairs, bad_rows):
            if found is None:
                yield row, None
            else:
                columns = dict(zip(self.columns, (found.prompt, found.chosen, found.rejected), strict=True))
                tokens = 2 * len(found.prompt) + len(found.chosen) + len(found.rejected)
                yield row, EncodedRow(columns, tokens, found.cut)


def encoder(tokenizer: PreTrainedTokenizerBase, experiment: Experiment) -> _Encoder:
    """Returns the encoder of preferences: a question's tokens, and those of both answers with their end."""
    return _Encoder(tokenizer, experiment)


def trainer(parts: TrainerParts) -> Any:
    """Returns TRL's DPOTrainer on the prepared rows, with the base as the reference."""
    from trl.trainer.dpo_config import DPOConfig

    from raytune_ft.objectives.trl.preference_trainer import PreferenceTrainer

    objective = parts.experiment.objective
    assert isinstance(objective, Dpo)
    own: dict[str, Any] = {
        "beta": objective.beta,
        "loss_type": objective.losses,
        "loss_weights": objective.loss_weights,
        "label_smoothing": objective.label_smoothing,
        "max_length": None,
        "disable_dropout": False,  # else TRL would switch off `method.dropout` too
    }
    return PreferenceTrainer(args=DPOConfig(**parts.arguments, **own), **parts.for_trl())


def lane_loss() -> LaneLoss | None:
    """Returns None: see `Dpo.not_on_lanes`."""
    return None


def further_models(artefact: Artefact) -> int:
    """Returns 1 for a whole model, beside which TRL holds the base as the reference; an adapter is switched off."""
    return 1 if artefact == "model" else 0


def score(model: Any, rows: Any, how: Scoring) -> Scores:
    """Returns the loss of each chosen answer, and both answers' log-probability per token: `chosen`, `rejected`."""
    return score_preferences(model, rows, how)


def answered(row: Mapping[str, Any]) -> Answered:
    """Returns the question with its chosen answer, on which the loss is."""
    prompt, chosen = list(row["prompt_ids"]), list(row["chosen_ids"])
    return Answered(prompt + chosen, [IGNORED] * len(prompt) + chosen)


def lengths(split: Path) -> Lengths:
    """Returns the lengths of each question with either answer, and those of the answers."""
    import numpy as np

    prompts, chosen, rejected = column_lengths(split, _Encoder.columns)
    return Lengths(np.concatenate([prompts + chosen, prompts + rejected]), np.concatenate([chosen, rejected]))


def words(experiment: Experiment) -> str:
    """Returns what was trained for, as a clause."""
    objective = experiment.objective
    assert isinstance(objective, Dpo)
    losses = " + ".join(objective.losses)
    return f"preference optimisation (dpo, loss {losses}, beta {objective.beta:g}) against the base as the reference"
