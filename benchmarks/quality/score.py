"""What a search needed to come near the grid's best, and how far it was from it at equal tokens."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from quality.curves import Curves
from quality.simulate import Spent

NEAR = 1.01
"""Within one per cent of the grid's best loss."""
AT = (1, 2, 4, 8)
"""Tokens at which the regret is read, in trials that are not stopped."""
ENOUGH = 40
"""A search that has spent as many whole trials is not looked at further; at random, half of the searches needed 30."""


@dataclass(frozen=True)
class Score:
    """One search with one seed; None where it never came near.

    Attributes:
        trials: That were handed out until it came near.
        tokens: Spent until then, in trials that are not stopped.
        regret: At each of `AT`, relative to the grid's best loss.
    """

    trials: int | None
    tokens: float | None
    regret: tuple[float, ...]


def score(curves: Curves, search: Iterable[Spent]) -> Score:
    """Plays `search` until it came near and every regret is known."""
    reached: Spent | None = None
    best_at = [math.inf] * len(AT)
    for spent in search:
        whole = spent.tokens / curves.full_tokens
        for index, limit in enumerate(AT):
            if whole <= limit:
                best_at[index] = min(best_at[index], spent.best)
        if reached is None and spent.best <= NEAR * curves.best:
            reached = spent
        if (reached and whole > AT[-1]) or whole > ENOUGH:
            break
    best_at = [min(best_at[: index + 1]) for index in range(len(AT))]
    return Score(
        trials=reached.trials if reached else None,
        tokens=reached.tokens / curves.full_tokens if reached else None,
        regret=tuple(best / curves.best - 1 for best in best_at),
    )


def summary(scores: list[Score]) -> dict[str, Any]:
    """Medians over the seeds; a seed that never came near counts as more than any other."""
    tokens = sorted(math.inf if each.tokens is None else each.tokens for each in scores)
    trials = sorted(math.inf if each.trials is None else each.trials for each in scores)
    return {
        "seeds": len(scores),
        "reached": sum(each.tokens is not None for each in scores),
        "trials_to_1_percent": _finite(statistics.median(trials)),
        "tokens_to_1_percent": _finite(statistics.median(tokens)),
        "tokens_quartiles": [_finite(tokens[len(tokens) // 4]), _finite(tokens[(3 * len(tokens)) // 4])],
        "regret": {str(at): _finite(statistics.median(each.regret[i] for each in scores)) for i, at in enumerate(AT)},
    }


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
