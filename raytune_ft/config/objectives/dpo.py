"""`objective: {type: dpo}`: direct preference optimisation, and its facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictFloat, model_validator

from raytune_ft.config.data import RowKind
from raytune_ft.config.model import Strict
from raytune_ft.config.objectives.facts import Product
from raytune_ft.metrics.named import (
    EVAL_CHOSEN_LOSS,
    EVAL_LOSS,
    EVAL_PREFERENCE_ACCURACY,
    LOSS,
    OF_TRIALS,
    PREFERENCE_ACCURACY,
    MetricFacts,
)

LossType = Literal[
    "sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft",
]  # fmt: skip
"""The losses of TRL 1.16's DPOTrainer."""
NEED_SMOOTHING = frozenset({"robust", "exo_pair"})
"""Losses that are something else, or not defined, without label smoothing."""
SMOOTHED = NEED_SMOOTHING | {"aot", "aot_unpaired"}
"""Losses that read `label_smoothing`."""


class Dpo(Strict):
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) and its relatives, by TRL's DPOTrainer.

    The base is the reference model. Trials are compared by `eval_preference_accuracy`, which needs no reference: the
    share of rows whose chosen answer has the greater log-probability per token.
    """

    rows: ClassVar[RowKind | None] = "preference"
    reports: ClassVar[tuple[MetricFacts, ...]] = (
        OF_TRIALS[EVAL_PREFERENCE_ACCURACY],
        OF_TRIALS[EVAL_LOSS],
        OF_TRIALS[EVAL_CHOSEN_LOSS],
    )
    row_metrics: ClassVar[tuple[str, ...]] = (PREFERENCE_ACCURACY, LOSS)
    evaluated_by: ClassVar[tuple[str, ...]] = (PREFERENCE_ACCURACY, LOSS)
    makes: ClassVar[Product] = "causal_lm"
    # Its own loss compares with the base, where it has one value whatever the data is; the chosen answers' tells more.
    diverges_by: ClassVar[str | None] = EVAL_CHOSEN_LOSS
    searched: ClassVar[tuple[str, ...]] = ("beta", "loss_type", "loss_weights", "label_smoothing")
    scales: ClassVar[Mapping[str, tuple[str, ...]]] = {EVAL_LOSS: searched}
    rate: ClassVar[float] = 0.1
    sequences: ClassVar[int] = 2
    reference_passes: ClassVar[int] = 1
    not_on_lanes: ClassVar[str | None] = (
        "dpo compares two whole answers, and each with the base's own; a lane's step adds up single tokens' losses"
    )

    type: Literal["dpo"] = "dpo"
    beta: StrictFloat = Field(0.1, gt=0.0)
    """How much a move away from the base counts; a smaller one allows larger moves. With `ipo`, its tau."""
    loss_type: LossType | Annotated[list[LossType], Field(min_length=1)] = "sigmoid"
    """One of TRL's losses, or a list of them that is summed by `loss_weights`: `sigmoid` is DPO, `ipo` is IPO, ..."""
    loss_weights: list[Annotated[StrictFloat, Field(gt=0.0)]] | None = None
    """Weight of each loss of `loss_type`; by default each counts 1."""
    label_smoothing: StrictFloat = Field(0.0, ge=0.0, lt=0.5)
    """Assumed share of rows whose answers are swapped; `robust` and `exo_pair` need it, `aot` may have it."""

    @model_validator(mode="after")
    def _losses_fit(self) -> Dpo:
        losses = self.losses
        if len(set(losses)) != len(losses):
            raise ValueError(f"loss_type {losses} repeats a loss; name each once")
        if self.loss_weights is not None and len(self.loss_weights) != len(losses):
            weights = len(self.loss_weights)
            raise ValueError(f"loss_weights has {weights} weights for {len(losses)} losses; give one for each")
        return self

    @property
    def losses(self) -> list[LossType]:
        """The losses that are summed."""
        return [self.loss_type] if isinstance(self.loss_type, str) else list(self.loss_type)

    @property
    def marks_answers(self) -> bool:
        """Whether the prepared rows show where an answer begins."""
        return True

    def decides_tokens(self) -> dict[str, str]:
        """Returns what, besides data and tokenizer, decides the prepared rows; the data fingerprint holds it."""
        return {"objective": self.type}
