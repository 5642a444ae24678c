"""The contents of a run directory's files as typed values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raytune_ft.config.promotion import PromotionConfig
from raytune_ft.search.planning.span import Span
from raytune_ft.search.results.rows import LeaderboardRow
from raytune_ft.training.progress import TrialProgress

RUNNING = "running"
"""Stands for the outcome of a trial that has not ended."""


@dataclass(frozen=True)
class Goal:
    """A metric that trials are judged by, and whether `min` or `max` of it is wanted."""

    name: str
    mode: str = "min"


@dataclass(frozen=True)
class Leaderboard:
    """The contents of `leaderboard.json`: all trials, the best first."""

    experiment: str
    metric: str
    mode: str
    rows: tuple[LeaderboardRow, ...]
    metrics: tuple[Goal, ...] = ()
    rule: str = ""
    """The rule by which the first trial won, in words."""

    @property
    def leading(self) -> Goal:
        """The goal that the trials are ordered by."""
        return self.metrics[0] if self.metrics else Goal(self.metric, self.mode)

    @property
    def further(self) -> tuple[Goal, ...]:
        """The goals after the first."""
        return self.metrics[1:]


@dataclass(frozen=True)
class CurvePoint:
    """One report of a trial."""

    step: int
    train_loss: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float | None = None
    samples: int | None = None
    tokens: int | None = None
    time: str | None = None
    memory_mib: float | None = None
    adapter_mib: float | None = None

    def value(self, metric: str) -> float | None:
        """Returns the metric's value, or None where it is missing or no finite number."""
        value = self.metrics.get(metric)
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Ending:
    """The contents of `outcome.json`: how a trial ended."""

    outcome: str
    reason: str = ""
    step: int | None = None
    value: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class TrialRecord:
    """The contents of one trial's directory; `ending` is None while it runs."""

    trial: str
    parameters: Mapping[str, Any]
    points: tuple[CurvePoint, ...]
    ending: Ending | None
    started: float
    """Unix time at which the trial's configuration was written."""
    touched: float
    """Unix time of its last sign of life."""
    progress: TrialProgress | None = None
    """Its last progress, which it writes between reports too."""

    @property
    def outcome(self) -> str:
        return self.ending.outcome if self.ending else RUNNING


@dataclass(frozen=True)
class Winner:
    """The contents of `winner.json`: the best trial, and its adapter's path relative to the run directory."""

    trial: str
    parameters: Mapping[str, Any]
    metric: str
    value: float
    adapter: str
    base_model: str
    data_fingerprint: str
    step: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    rule: str = ""


@dataclass(frozen=True)
class Interval:
    """A difference, winner minus base, with its confidence interval."""

    mean: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class Example:
    """One test row, and the answers of base and winner."""

    prompt: str
    expected: str
    base: str | None = None
    winner: str | None = None


FEW_ROWS = PromotionConfig().min_rows
"""With fewer rows of a label, each one moves `macro_f1` a lot; the same number as gates require by default."""


@dataclass(frozen=True)
class Evaluation:
    """The contents of `evaluation.json`: base against winner on a split that no trial saw."""

    split: str
    rows: int
    metrics: tuple[str, ...]
    systems: Mapping[str, Mapping[str, float]]
    difference: Mapping[str, Interval]
    labels: tuple[str, ...] = ()
    label_rows: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()

    def few(self) -> str | None:
        """Returns why the interval of `macro_f1` is wide, if it rests on a label with few rows; else None."""
        there = {label: rows for label, rows in self.label_rows.items() if rows}
        rarest = min(there, key=lambda label: there[label], default="")
        if "macro_f1" not in self.metrics or there.get(rarest, FEW_ROWS) >= FEW_ROWS:
            return None
        return f"macro_f1 counts {rarest!r}, with {there[rarest]} rows, as much as any label: hence its wide interval"


@dataclass(frozen=True)
class Split:
    """Size and origin of one split."""

    rows: int
    tokens: int | None = None
    source: str = ""
    dropped: int = 0


@dataclass(frozen=True)
class DataFacts:
    """The facts about the rows in `data/manifest.json`."""

    fingerprint: str
    form: str
    splits: Mapping[str, Split]
    duplicates: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Foreseen:
    """What a sweep was expected to take; None for what was unknown."""

    memory_mib: Span | None = None
    hours: Span | None = None
    device_hours: Span | None = None
    tokens: Span | None = None
    cost: Span | None = None


@dataclass(frozen=True)
class PlanFile:
    """The contents of `plan.json`: the plan before the sweep, and the forecast after its first rung."""

    planned: Foreseen
    after_first_rung: Foreseen | None = None


@dataclass(frozen=True)
class Spending:
    """The contents of `spent.json`; `closed` is why the study was closed for good, or None."""

    hours: float = 0.0
    device_hours: float = 0.0
    tokens: int = 0
    cost: float | None = None
    closed: str | None = None
