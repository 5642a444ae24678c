"""Compares what a sweep was planned to take, what it was forecast to take after its first rung, and what it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raytune_ft.config.search.budget import Budget
from raytune_ft.paths import RunDirectory
from raytune_ft.reporting.read import read_plan, read_spending, read_trials
from raytune_ft.reporting.records import Foreseen, Spending
from raytune_ft.search.planning.span import Span

WITHIN = 1.005
"""The factor by which the truth may lie outside of a range and still count as within, as both are rounded."""


@dataclass(frozen=True)
class Line:
    """One quantity: planned, forecast and real.

    Attributes:
        name: The key of the quantity, e.g. `hours`.
        words: Its name for a person.
        planned: The plan before the sweep began.
        forecast: The forecast after its first rung.
        truth: The real value so far, or at the end.
        over_plan: Truth divided by the plan's likely value.
        over_forecast: Truth divided by the forecast's likely value.
    """

    name: str
    words: str
    planned: Span | None
    forecast: Span | None
    truth: float | None
    over_plan: float | None
    over_forecast: float | None


def plan_against_truth(run: RunDirectory) -> tuple[Line, ...]:
    """Returns a line for each quantity that was planned or measured; empty where the run has no plan."""
    if not run.plan.is_file():
        return ()
    plan = read_plan(run)
    spent = read_spending(run) if run.spent.is_file() else Spending()
    peaks = [point.memory_mib for trial in read_trials(run) for point in trial.points if point.memory_mib]
    after = plan.after_first_rung or Foreseen()
    known = run.spent.is_file()
    found = (
        _line("memory_mib", "memory of a worker", plan.planned.memory_mib, None, max(peaks, default=None)),
        _line("hours", "time", plan.planned.hours, after.hours, spent.hours if known else None),
        _line(
            "device_hours",
            "device hours",
            plan.planned.device_hours,
            after.device_hours,
            spent.device_hours if known else None,
        ),
        _line("tokens", "training tokens", plan.planned.tokens, after.tokens, float(spent.tokens) if known else None),
        _line("cost", "cost", plan.planned.cost, after.cost, spent.cost),
    )
    return tuple(line for line in found if line.planned or line.truth is not None)


def _line(name: str, words: str, planned: Span | None, forecast: Span | None, truth: float | None) -> Line:
    return Line(name, words, planned, forecast, truth, _over(truth, planned), _over(truth, forecast))


def _over(truth: float | None, span: Span | None) -> float | None:
    return round(truth / span.likely, 3) if truth is not None and span and span.likely else None


def amount(name: str, value: float | None) -> str:
    """Returns a quantity's value with its unit, e.g. `1,926 MiB`, `31 min 05 s`."""
    from raytune_ft.reporting.wording import duration

    written: dict[str, Callable[[float], str]] = {
        "memory_mib": lambda mib: f"{mib:,.0f} MiB",
        "hours": lambda hours: duration(3600 * hours),
        "device_hours": lambda hours: f"{hours:.3g} h",
        "tokens": lambda tokens: f"{tokens:,.0f}",
        "cost": lambda cost: f"{cost:.2f}",
    }
    return "-" if value is None else written[name](value)


def span_words(name: str, span: Span | None) -> str:
    """Returns the likely value and the range in words, e.g. `4 min 20 s (1 min 10 s to 19 min 25 s)`."""
    if span is None:
        return "-"
    likely, low, high = (amount(name, each) for each in (span.likely, span.low, span.high))
    return likely if low == high else f"{likely} ({low} to {high})"


def verdict(line: Line) -> str:
    """Returns in words how many times the likely value the truth is, and whether it lies in the planned range."""
    if line.planned is None or line.truth is None or line.over_plan is None:
        return "-"
    inside = line.planned.low / WITHIN <= line.truth <= line.planned.high * WITHIN
    return f"{line.over_plan:.2f} x, {'within' if inside else 'outside'} the range"


def spending_words(spent: Spending, budget: Budget) -> str:
    """Returns what is used up in words, with limits where there are any: `12,300 of 1,000,000 tokens, 4 min 10 s`."""
    parts = [
        _of(f"{spent.tokens:,}", budget.tokens and f"{budget.tokens:,}") + " tokens",
        _of(amount("hours", spent.hours), budget.hours and amount("hours", budget.hours)),
        _of(f"{spent.device_hours:.3g}", budget.device_hours and f"{budget.device_hours:g}") + " device hours",
    ]
    if spent.cost is not None:
        parts.append("cost " + _of(f"{spent.cost:.2f}", budget.cost and f"{budget.cost:g}"))
    return ", ".join(parts)


def _of(used: str, limit: str | float | None) -> str:
    return f"{used} of {limit}" if limit else used
