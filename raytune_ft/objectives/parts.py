"""What an objective's functions take and give; every objective's module has the functions of `ObjectiveRoom`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.methods.facts import Artefact
from raytune_ft.data.encoding import Encoder
from raytune_ft.data.tokens.labels import RowLabels
from raytune_ft.objectives.scoring.scores import Scores

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerBase

LaneLoss = Callable[..., "tuple[torch.Tensor, torch.Tensor]"]
"""`cross_entropy.token_losses`, or a function that is called like it."""


@dataclass(frozen=True)
class TrainerParts:
    """What a trainer is made of.

    Attributes:
        experiment: The trial's experiment.
        model: The base, as the method loads it for training.
        adapter: PEFT's config of the adapter that the trainer adds to it; None where the model itself is trained.
        arguments: Fields of transformers' TrainingArguments, which are the same for every objective.
        train: The prepared training split, a `datasets.Dataset`.
        validation: The prepared validation split.
        tokenizer: The base's tokenizer.
        callbacks: transformers' TrainerCallbacks.
    """

    experiment: Experiment
    model: Any
    adapter: Any | None
    arguments: dict[str, Any]
    train: Any
    validation: Any
    tokenizer: Any
    callbacks: Sequence[Any]

    def for_trl(self) -> dict[str, Any]:
        """Returns what every trainer of TRL takes, by the names of its arguments; `args` is the objective's own."""
        return {
            "model": self.model,
            "train_dataset": self.train,
            "eval_dataset": self.validation,
            "processing_class": self.tokenizer,
            "peft_config": self.adapter,
            "callbacks": list(self.callbacks),
        }


@dataclass(frozen=True)
class Scoring:
    """How rows are scored.

    Attributes:
        pad_token_id: Token that pads shorter rows on the left.
        batch_size: Rows of one forward pass; fewer if they don't fit into memory.
        progress: Called with the number of rows done and of all rows.
        labels: The labels of each row that its answer is compared with, or None.
        log: Receives a line if memory runs out.
    """

    pad_token_id: int
    batch_size: int
    progress: Callable[[int, int], None] = lambda done, rows: None
    labels: Sequence[RowLabels] | None = None
    log: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Answered:
    """A prepared row as one question with its answer.

    Attributes:
        input_ids: Token ids of both.
        labels: The same for tokens with a loss, -100 elsewhere.
    """

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Lengths:
    """How long the prepared rows of a split are, sequence by sequence.

    Attributes:
        tokens: Tokens of each sequence, int64, [rows * sequences].
        with_loss: How many of these have a loss, int64, [rows * sequences].
    """

    tokens: np.ndarray
    with_loss: np.ndarray


class ObjectiveRoom(Protocol):
    """The functions of an objective's module."""

    def encoder(self, tokenizer: PreTrainedTokenizerBase, experiment: Experiment) -> Encoder:
        """Returns what turns a row into the columns that the trainer reads."""

    def trainer(self, parts: TrainerParts) -> Any:
        """Returns TRL's trainer, whose evaluation reports the objective's metrics, each with the prefix `eval_`."""

    def lane_loss(self) -> LaneLoss | None:
        """Returns the loss of a lane's step; None where the facts' `not_on_lanes` says why there is none."""

    def further_models(self, artefact: Artefact) -> int:
        """Returns how many models of the base's size training holds beside the one that is trained."""

    def score(self, model: Any, rows: Any, how: Scoring) -> Scores:
        """Returns the model's scores of prepared rows, without generating text."""

    def answered(self, row: Mapping[str, Any]) -> Answered:
        """Returns a prepared row as a question with the answer that is wanted."""

    def lengths(self, split: Path) -> Lengths:
        """Returns how long the rows of a prepared split are, without importing `datasets`."""

    def words(self, experiment: Experiment) -> str:
        """Returns what was trained for, as a clause for card and report."""
