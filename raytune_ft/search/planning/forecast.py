"""Hours, device hours and cost of a sweep: before it from what the device should do, after a rung from what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytune_ft.search.planning.span import Span
from raytune_ft.search.planning.speed import Speed
from raytune_ft.search.planning.work import Work

BEGIN_S = 7.0
"""Ray's start, that of the lanes, and loading the base; 5 to 8 on `plan.MEASURED_ON`."""
PRIVATE_RAY_S = 8.0
"""What a first isolated trial takes longer to start than the others, with a Ray of the study's own."""
END_S = 0.7
"""From the last trial's end to that of the sweep."""
NEXT_TRIAL_S = 0.1
"""From a trial's end on a lane to the next one's first step; benchmarks/lanes.py, gap."""
REPORT_S = 0.1
"""A checkpoint, and the way to the scheduler and back."""
UNCERTAIN = 2.0
"""Before anything was measured, times lie within this factor."""
MEASURED_PRODUCTS = 1.6
"""Where the CPU's products were measured, a token's seconds lie within this factor; benchmarks/lanes.py, plan."""
MEASURED = 1.25
"""After the first rung, a token's seconds lie within this factor: batches of another size, other ranks."""


@dataclass(frozen=True)
class Paces:
    """Seconds of what a sweep consists of.

    Attributes:
        begin: Until the first trial trains.
        start: What a trial takes until it trains.
        token: What a trained token of one trial takes.
        evaluated: What an evaluated token takes.
        report: What a report takes beside its evaluation.
        beside: Trials whose tokens are trained at the same time, each at that pace.
        groups: Worker groups that evaluate, save and start at the same time.
    """

    begin: Span
    start: Span
    token: Span
    evaluated: Span
    report: float
    beside: float
    groups: int


def expected_paces(speed: Speed, groups: int, isolated_start_s: float | None) -> Paces:
    """Before anything was measured.

    Args:
        speed: How fast a worker group trains.
        groups: That train at the same time.
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
    """Out of the first report of the first trial; None where it says too little.

    Args:
        report: The line of `metrics.jsonl`.
        validation_tokens: That it evaluated.
        at_once: Trials that train at the same time.
        groups: Worker groups that share them.
        elapsed_s: From the sweep's beginning to the report.
        since_start_s: From the start of the trial's own worker group to the report; None on lanes.
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
    """Of the whole sweep; None where its tokens are unknown."""
    if work.tokens is None or work.evaluated_tokens is None:
        return None
    training = work.tokens.times_unrelated(paces.token) * (1 / paces.beside)
    evaluating = work.evaluated_tokens.times_unrelated(paces.evaluated)
    between = evaluating + work.reports * paces.report + paces.start * float(work.trials)
    return (paces.begin + training + between * (1 / paces.groups) + END_S) * (1 / 3600)


def device_hours(whole: Span, groups: int, devices: float) -> Span:
    """Of groups that are up all the time, each with so many devices."""
    return whole * (groups * devices)
