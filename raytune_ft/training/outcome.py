"""The outcome of a trial: how it ended, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from raytune_ft.paths import TrialDirectory, read_json, write_json


class OutcomeKind(StrEnum):
    """The five ways in which a trial can end."""

    completed = "completed"
    pruned = "pruned"
    diverged = "diverged"
    out_of_memory = "out_of_memory"
    failed = "failed"


@dataclass(frozen=True)
class Outcome:
    """The outcome of one trial.

    Attributes:
        kind: How it ended.
        reason: One sentence for the user.
        step: Number of optimizer steps done.
        value: The last reported value of the study's metric, if any.
        seconds: Seconds from the trial's start to its end.
    """

    kind: OutcomeKind
    reason: str
    step: int = 0
    value: float | None = None
    seconds: float = 0.0

    def as_values(self) -> dict[str, Any]:
        """As JSON values: `outcome.json`'s."""
        values = asdict(self)
        values["outcome"] = str(values.pop("kind"))
        return values

    def write(self, trial: TrialDirectory) -> None:
        """Leaves `outcome.json`, by which the trial has ended."""
        write_json(trial.outcome, self.as_values())

    @staticmethod
    def read(trial: TrialDirectory) -> Outcome | None:
        """Returns the outcome of `trial`, or None if it has not ended."""
        if not trial.outcome.exists():
            return None
        values: dict[str, Any] = read_json(trial.outcome)
        return Outcome(kind=OutcomeKind(values.pop("outcome")), **values)
