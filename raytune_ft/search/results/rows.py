"""One trial's row of the leaderboard, as it is ranked, written and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LeaderboardRow:
    """One trial of the leaderboard.

    Attributes:
        rank: From 1; None where the trial has no result.
        trial: Its name.
        value: The best of the first goal that it reported, at `step`; None where it has no result.
        outcome: An `OutcomeKind`.
        reason: Of the outcome, for a person.
        step: Of `value`; the last one that it did where there is none.
        seconds: It trained until then.
        parameters: Key path -> value.
        checkpoint: Of that step, below the run directory; None where its weights are gone.
        values: Goal's name -> value at that step.
        front: Whether no other trial is as good in every goal and better in one.
    """

    rank: int | None
    trial: str
    value: float | None
    outcome: str
    reason: str = ""
    step: int | None = None
    seconds: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    front: bool = False
