"""Every metric by its name: whether less or more of it is better, and what may be done with it.

A new metric is an entry here, and the function that measures it: of a trial's reports in its objective's trainer, of
scored rows in `evaluation.metrics`. Which of them an objective reports, its facts say (`config.objectives`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

Direction = Literal["min", "max"]

EVAL_LOSS = "eval_loss"
EVAL_CHOSEN_LOSS = "eval_chosen_loss"
EVAL_PREFERENCE_ACCURACY = "eval_preference_accuracy"
LOSS = "loss"
ACCURACY = "accuracy"
MACRO_F1 = "macro_f1"
WEIGHTED_F1 = "weighted_f1"
PREFERENCE_ACCURACY = "preference_accuracy"


@dataclass(frozen=True)
class MetricFacts:
    """What is known of a metric whoever measures it.

    Attributes:
        name: As users write it.
        direction: `min` where less of it is better.
        leads: Whether a trial tells it at each of its reports as a measure of how good it is, so that it may lead a
            search: schedulers stop trials by it, and the leaderboard is ordered by it.
        is_loss: Whether it is a loss, which has no upper bound and says little to who does not know the model.
        is_share: Whether it is a share of the rows, each of which counts 0 or 1, so that its interval is exact.
        needs_labels: Whether it compares the model's choice among `evaluate.labels`.
    """

    name: str
    direction: Direction = "min"
    leads: bool = False
    is_loss: bool = False
    is_share: bool = False
    needs_labels: bool = False


class Goal(Protocol):
    """A metric and the direction that is wanted: of `search.metrics`, or of a leaderboard."""

    @property
    def name(self) -> str: ...

    @property
    def mode(self) -> str: ...


def sign(goal: Goal) -> float:
    """Makes a cost of the goal's value, of which less is better, and a value of its cost."""
    return 1.0 if goal.mode == "min" else -1.0


OF_TRIALS = {
    facts.name: facts
    for facts in (
        MetricFacts(EVAL_LOSS, leads=True, is_loss=True),
        MetricFacts(EVAL_PREFERENCE_ACCURACY, "max", leads=True, is_share=True),
        MetricFacts(EVAL_CHOSEN_LOSS, is_loss=True),
        MetricFacts("adapter_mib"),
        MetricFacts("train_seconds"),
        MetricFacts("tokens"),
    )
}
"""What a trial's report may tell; any that its objective reports may be a goal of a search."""
SPENT = ("adapter_mib", "train_seconds", "tokens")
"""What every trial that trains on rows reports, whatever its objective: what was spent, and how large the result is."""
OF_ANY_TRIAL = ("train_seconds",)
"""What a custom trainer's trial is known to have spent."""
OF_ROWS = {
    facts.name: facts
    for facts in (
        MetricFacts(LOSS, is_loss=True),
        MetricFacts(ACCURACY, "max", is_share=True, needs_labels=True),
        MetricFacts(MACRO_F1, "max", needs_labels=True),
        MetricFacts(WEIGHTED_F1, "max", needs_labels=True),
        MetricFacts(PREFERENCE_ACCURACY, "max", is_share=True),
    )
}
"""What `evaluate` makes of scored rows."""


def less_is_better(metric: str) -> bool:
    """Whether less of it is better; of a metric that this version does not know, more is."""
    facts = OF_ROWS.get(metric) or OF_TRIALS.get(metric)
    return facts is not None and facts.direction == "min"


def is_share(metric: str) -> bool:
    """Whether the metric of scored rows is a share of them."""
    return metric in OF_ROWS and OF_ROWS[metric].is_share


def task_metrics(names: Iterable[str]) -> list[str]:
    """Those of the names that are no loss, in their order."""
    return [name for name in names if name not in OF_ROWS or not OF_ROWS[name].is_loss]


def deciding_metric(names: Iterable[str]) -> str | None:
    """The metric that a comparison is decided by: the first that is no loss, or the loss; None without any."""
    names = list(names)
    return next(iter(task_metrics(names)), names[0] if names else None)
