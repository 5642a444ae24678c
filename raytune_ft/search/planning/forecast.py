"""Forecasts a sweep's hours and device hours from the device's expected speed, or, after a rung, from the measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytune_ft.search.planning.span import Span
from raytune_ft.search.planning.speed import Speed
from raytune_ft.search.planning.work import Work

BEGIN_S = 7.0
"""Seconds to start Ray and the lanes and to load the base model; 5 to 8 were measured on `plan.MEASURED_ON`."""
PRIVATE_RAY_S = 8.0
"""Seconds that the first isolated trial takes longer to start than the others, with a private Ray."""
END_S = 0.7
"""Seconds from the last trial's end to the end of the sweep."""
NEXT_TRIAL_S = 0.1
"""Seconds from a trial's end on a lane to the next one's first step; from benchmarks/lanes.py, gap."""
REPORT_S = 0.1
"""Seconds to write a checkpoint and to get the scheduler's decision."""
UNCERTAIN = 2.0
"""The factor within which times lie before anything was measured."""
MEASURED_PRODUCTS = 1.6
"""The same for the seconds per token, where the CPU's matrix products were measured; from benchmarks/lanes.py, plan."""
MEASURED = 1.25
"""The same for the seconds per token after the first rung: other trials have other batch sizes and ranks."""


@dataclass(frozen=True)
class Paces:
    """How many seconds the parts of a sweep take.

    Attributes:
        begin: Seconds until the first trial trains.
        start: Seconds that each trial takes until it trains.
        token: Seconds per trained token of one trial.
        evaluated: Seconds per evaluated token.
        report: Seconds per report, without its evaluation.
        beside: How many trials train at the same time, each at that speed.
        groups: How many worker groups evaluate, save and start at the same time.
    """

    begin: Span
    start: Span
    token: Span
    evaluated: Span
    report: float
    beside: float
    groups: int


def expected_paces(speed: Speed, groups: int, isolated_start_s: float | None) -> Paces:
    """Returns the seconds to expect before anything was measured.

    Args:
        speed: How fast a worker group trains.
        groups: How many worker groups train at the same time.
        isolated_start_s: Seconds until a trial with workers of its own trains; None on lanes.
    """
    within = MEASURED_PRODUCTS if speed.measured else UNCERTAIN
    begin = PRIVATE_RAY_S if isolated_start_s else BEGIN_S  # isolated trials start their own workers
    return Paces(
        begin=Span.within(UNCERTAIN, begin),
        start=Span.within(UNCERTAIN, isolated_start_s or NEXT_TRIAL_S),
        token=Span.within(within, speed.train_s),
        evaluated=Span.within(within, speed.evaluate_s),
        report=REPORT_S,
        beside=float(groups),
        groups=groups,
    )


def measured_paces(
    report: Mapping[str, Any],
    validation_tokens: int,
    at_once: int,
    groups: int,
    elapsed_s: float,
    since_start_s: float | None,
) -> Paces | None:
    """Returns the seconds measured in the first report of the first trial; None if it lacks tokens or seconds.

    Args:
        report: The line of `metrics.jsonl`.
        validation_tokens: How many tokens its evaluation took.
        at_once: How many trials train at the same time.
        groups: How many worker groups share them.
        elapsed_s: Seconds from the sweep's beginning to the report.
        since_start_s: Seconds from the start of the trial's own worker group to the report; None on lanes.
    """
    tokens, seconds = report.get("tokens") or 0, report.get("seconds") or 0.0
    evaluating = min(report.get("eval_seconds") or 0.0, seconds)
    if not tokens or not seconds:
        return None
    start = NEXT_TRIAL_S if since_start_s is None else max(0.0, since_start_s - seconds)
    begin = max(0.0, elapsed_s - seconds - (start if since_start_s is not None else 0.0))
    return Paces(
        begin=Span(begin, begin, begin),
        start=Span.within(MEASURED, start),
        token=Span.within(MEASURED, (seconds - evaluating) / tokens),
        evaluated=Span.within(MEASURED, evaluating / max(1, validation_tokens)),
        report=REPORT_S,
        beside=float(at_once),
        groups=groups,
    )


def hours(work: Work, paces: Paces) -> Span | None:
    """Returns the hours of the whole sweep; None where its tokens are unknown."""
    if work.tokens is None or work.evaluated_tokens is None:
        return None
    training = work.tokens.times_unrelated(paces.token) * (1 / paces.beside)
    evaluating = work.evaluated_tokens.times_unrelated(paces.evaluated)
    between = evaluating + work.reports * paces.report + paces.start * float(work.trials)
    return (paces.begin + training + between * (1 / paces.groups) + END_S) * (1 / 3600)


def device_hours(whole: Span, groups: int, devices: float) -> Span:
    """Returns the device hours of `groups` worker groups that run all the time, each with `devices` devices."""
    return whole * (groups * devices)
