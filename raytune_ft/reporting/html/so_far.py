"""Finds the best value that a study had reached after given tokens, and after given hours of training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from raytune_ft.metrics.named import Goal, sign
from raytune_ft.reporting.records import TrialRecord

FRACTIONS = (0.125, 0.25, 0.5, 0.75, 1.0)
"""Fractions of the smaller study's expense at which two studies are compared."""
NEAR = 0.01


@dataclass(frozen=True)
class SoFar:
    """The state of a study at one of its reports: what all trials together have used, and their best value so far."""

    tokens: int
    hours: float
    best: float


@dataclass(frozen=True)
class Standing:
    """The best values of two studies after the same expense.

    Attributes:
        at: The expense: tokens, or hours of training.
        first: The first study's best value by then; None before its first value.
        second: The same of the second study.
    """

    at: float
    first: float | None
    second: float | None


def best_so_far(trials: Sequence[TrialRecord], goal: Goal) -> tuple[SoFar, ...]:
    """Returns the study's state at each report, in order; reports without a value count too, as they have a cost.

    Hours are the trials' own, which a monotonic clock measures. Times of the wall clock only say which of several
    running trials reported first; where the clock was set back, later trials are moved behind earlier ones' starts.
    """
    reports: list[tuple[float, int, int, int, float, float | None]] = []
    shift, begun = 0.0, -math.inf
    for number, trial in enumerate(sorted(trials, key=lambda trial: (len(trial.trial), trial.trial))):
        tokens, seconds, latest = 0, 0.0, -math.inf
        for place, point in enumerate(trial.points):
            stamp = _stamp(point.time)
            if place == 0:
                shift = max(shift, begun - stamp)
                begun = max(begun, stamp + shift)
            latest = max(latest, stamp + shift)
            more, longer = max(0, (point.tokens or tokens) - tokens), max(0.0, (point.seconds or seconds) - seconds)
            tokens, seconds = tokens + more, seconds + longer
            reports.append((latest, number, place, more, longer, point.value(goal.name)))
    found: list[SoFar] = []
    used, took, best = 0, 0.0, sign(goal) * math.inf
    for _, _, _, more, longer, value in sorted(reports, key=lambda report: report[:3]):
        used, took = used + more, took + longer
        if value is not None and sign(goal) * value < sign(goal) * best:
            best = value
        found.append(SoFar(used, took / 3600, best))
    return tuple(found)


def standings(first: Sequence[float], second: Sequence[float], bests: tuple[Sequence[float], ...]) -> list[Standing]:
    """Returns both studies' best values at `FRACTIONS` of what the smaller one used.

    Args:
        first: What the first study had used at each of its reports, ascending.
        second: The same of the second study.
        bests: The best values so far of both studies at these reports.
    """
    if not first or not second:
        return []
    least = min(first[-1], second[-1])
    points = [fraction * least for fraction in FRACTIONS]
    return [Standing(at, _at(at, first, bests[0]), _at(at, second, bests[1])) for at in points]


def tokens_to(curve: Iterable[SoFar], value: float, goal: Goal) -> int | None:
    """Returns the tokens after which the best value was within 1 % of `value`; None where it never was."""
    limit = sign(goal) * value + NEAR * abs(value)
    return next((point.tokens for point in curve if sign(goal) * point.best <= limit), None)


def _at(at: float, used: Sequence[float], bests: Sequence[float]) -> float | None:
    seen = [best for spent, best in zip(used, bests, strict=True) if spent <= at * (1 + 1e-9)]
    return seen[-1] if seen and math.isfinite(seen[-1]) else None


def _stamp(time: str | None) -> float:
    try:
        return datetime.fromisoformat(time).timestamp() if time else 0.0
    except ValueError:
        return 0.0
