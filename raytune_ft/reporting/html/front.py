"""Finds the best report of each trial so far, and with several goals the trials on the Pareto front."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.text import Text

from raytune_ft.config.search.goals import Metric
from raytune_ft.metrics.named import sign
from raytune_ft.reporting.records import TrialRecord
from raytune_ft.reporting.wording import goals_in_words, one_line
from raytune_ft.search.results.goals import on_front, values_in

_LOST = ("diverged", "out_of_memory", "failed")  # they leave no adapter
_MOST_LINES = 8


@dataclass(frozen=True)
class Best:
    """A trial's report with its best value of the leading metric so far."""

    trial: str
    value: float
    step: int
    parameters: Mapping[str, Any]
    values: Mapping[str, float] = field(default_factory=dict)
    """The value of every goal at that step."""


def bests_of(trials: Iterable[TrialRecord], goals: Sequence[Metric]) -> list[Best]:
    """Returns the best report of each trial that reported a value, the best trial first."""
    bests, leading = [], goals[0]
    for trial in trials:
        valued = [(value, point) for point in trial.points if (value := point.value(leading.name)) is not None]
        value, point = min(valued, key=lambda each: sign(leading) * each[0], default=(None, None))
        if value is not None and point is not None:
            bests.append(Best(trial.trial, value, point.step, trial.parameters, values_in(asdict(point), goals)))
    return sorted(bests, key=lambda best: sign(leading) * best.value)


def front_of(trials: Iterable[TrialRecord], goals: Sequence[Metric]) -> tuple[Best, ...]:
    """Returns the Pareto front of the trials that leave an adapter; empty where there is one goal."""
    if len(goals) < 2:
        return ()
    bests = bests_of([trial for trial in trials if trial.outcome not in _LOST], goals)
    return tuple(
        best for best, member in zip(bests, on_front([best.values for best in bests], goals), strict=True) if member
    )


def front_lines(front: Sequence[Best]) -> list[Text]:
    """Returns a line for each of the first trials on the front, and one that counts the others."""
    lines = [
        Text(one_line(f"on the front: trial {best.trial}, step {best.step}: {goals_in_words(best.values)}"))
        for best in front[:_MOST_LINES]
    ]
    more = len(front) - _MOST_LINES
    return [*lines, Text(f"and {more} more on the front")] if more > 0 else lines
