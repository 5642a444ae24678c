"""`objective: {type: sft}`: supervised fine-tuning, and its facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from raytune_ft.config.data import RowKind
from raytune_ft.config.model import Strict
from raytune_ft.config.objectives.facts import Product
from raytune_ft.metrics.named import ACCURACY, EVAL_LOSS, LOSS, MACRO_F1, OF_TRIALS, WEIGHTED_F1, MetricFacts


class Sft(Strict):
    """Supervised fine-tuning: cross entropy of the next token."""

    rows: ClassVar[RowKind | None] = "answer"
    reports: ClassVar[tuple[MetricFacts, ...]] = (OF_TRIALS[EVAL_LOSS],)
    row_metrics: ClassVar[tuple[str, ...]] = (LOSS, ACCURACY, MACRO_F1, WEIGHTED_F1)
    evaluated_by: ClassVar[tuple[str, ...]] = (LOSS,)
    makes: ClassVar[Product] = "causal_lm"
    diverges_by: ClassVar[str | None] = EVAL_LOSS
    searched: ClassVar[tuple[str, ...]] = ()
    scales: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    rate: ClassVar[float] = 1.0
    sequences: ClassVar[int] = 1
    reference_passes: ClassVar[int] = 0
    not_on_lanes: ClassVar[str | None] = None

    type: Literal["sft"] = "sft"
    loss_on: Literal["completion", "all"] = "completion"
    """`completion`: only the answer's tokens have a loss (in `messages`: the assistant's turns); `all`: every token."""

    @property
    def marks_answers(self) -> bool:
        """Whether the prepared rows show where an answer begins."""
        return self.loss_on == "completion"

    def decides_tokens(self) -> dict[str, str]:
        """Returns what, besides data and tokenizer, decides the prepared rows; the data fingerprint holds it."""
        return {"loss_on": self.loss_on}
