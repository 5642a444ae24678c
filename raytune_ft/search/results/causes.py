"""Why no trial of a study ended with an adapter, counted by cause."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raytune_ft.errors import RaytuneError

if TYPE_CHECKING:
    from raytune_ft.search.results.rows import LeaderboardRow

_NUMBER = re.compile(r"(?<![A-Za-z_])[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan\b|inf\b)", re.IGNORECASE)


@dataclass(frozen=True)
class Cause:
    """Trials that ended alike, for reasons that differ in their numbers only.

    Attributes:
        outcome: How all of them ended.
        reason: The first one's.
        trials: Their names.
    """

    outcome: str
    reason: str
    trials: tuple[str, ...]


class NothingWon(RaytuneError):
    """A study ended without an adapter.

    Args:
        run: The run directory.
        causes: Why the trials ended, the most frequent cause first.
    """

    def __init__(self, run: Path, causes: tuple[Cause, ...]) -> None:
        self.run, self.causes = run, causes
        super().__init__(run, causes)  # args rebuild the error on the other side of a pickle

    def __str__(self) -> str:
        count = sum(len(cause.trials) for cause in self.causes)
        first = self.causes[0] if self.causes else None
        example = f" (trial {first.trials[0]} {first.outcome}: {first.reason})" if first else ""
        kinds = f", for {len(self.causes)} causes" if len(self.causes) > 1 else ""
        return " ".join(f"{self.run}: none of {count} trials ended with an adapter{kinds}{example}".split())


def causes_of(board: Sequence[LeaderboardRow]) -> tuple[Cause, ...]:
    """How often what ended a trial, the most frequent cause first."""
    alike: dict[tuple[str, str], list[LeaderboardRow]] = {}
    for row in board:
        alike.setdefault((row.outcome, _NUMBER.sub("#", row.reason)), []).append(row)
    groups = sorted(alike.values(), key=len, reverse=True)
    return tuple(Cause(rows[0].outcome, rows[0].reason, tuple(row.trial for row in rows)) for rows in groups)
