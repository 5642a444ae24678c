"""What a sweep was planned to take, was forecast to take after its first rung, and took; and its budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raytune_ft.config.search.budget import Budget
from raytune_ft.paths import RunDirectory
from raytune_ft.reporting.read import read_plan, read_spending, read_trials
from raytune_ft.reporting.records import Foreseen, Spending
from raytune_ft.search.planning.span import Span

WITHIN = 1.005
"""A truth that rounding puts outside a range lies in it."""


@dataclass(frozen=True)
class Line:
    """One quantity.

    Attributes:
        name: The key of the quantity, e.g. `hours`.
        words: What it is.
        planned: Before the sweep began.
        forecast: After its first rung.
        truth: So far, or at its end.
        over_plan: Truth over what was likely by the plan.
        over_forecast: Truth over what was likely by the forecast.
    """

    name: str
    words: str
    planned: Span | None
    forecast: Span | None
    truth: float | None
    over_plan: float | None
    over_forecast: float | None


def plan_against_truth(run: RunDirectory) -> tuple[Line, ...]:
    """A line for each quantity that was planned or measured; none where the run has no plan."""
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
    """With its unit, e.g. `1,926 MiB`, `31 min 05 s`."""
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
    """What is likely, and the range, e.g. `4 min 20 s (1 min 10 s to 19 min 25 s)`."""
    if span is None:
        return "-"
    likely, low, high = (amount(name, each) for each in (span.likely, span.low, span.high))
    return likely if low == high else f"{likely} ({low} to {high})"


def verdict(line: Line) -> str:
    """Whether the truth lies in the planned range, or how far off what was likely it is."""
    if line.planned is None or line.truth is None or line.over_plan is None:
        return "-"
    inside = line.planned.low / WITHIN <= line.truth <= line.planned.high * WITHIN
    return f"{line.over_plan:.2f} x, {'within' if inside else 'outside'} the range"


def spending_words(spent: Spending, budget: Budget) -> str:
    """What is used up, with its limit where there is one: `12,300 of 1,000,000 tokens, 4 min 10 s`."""
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
