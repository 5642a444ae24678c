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
        trial: The trial's name.
        value: The best of the first goal that it reported, at `step`; None where it has no result.
        outcome: An `OutcomeKind`.
        reason: Why it ended so, for a person.
        step: The optimizer step of `value`; the last one that the trial did where there is no value.
        seconds: It trained until then.
        parameters: Key path -> value.
        checkpoint: That step's directory of weights, relative to the run directory; None where they are gone.
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
