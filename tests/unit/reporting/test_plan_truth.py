"""Plan against truth: what was planned, forecast and measured, in words, in the page and in the status."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console

from raytune_ft.config.search.budget import Budget
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.reporting.html import sections
from raytune_ft.reporting.plan_truth import plan_against_truth, span_words, spending_words, verdict
from raytune_ft.reporting.records import Spending
from raytune_ft.reporting.terminal.status import run_status, status_view
from raytune_ft.search.planning.span import Span
from raytune_ft.training.metrics_log import append_metrics

MakeRun = Callable[..., RunDirectory]


def span(low: float, likely: float, high: float) -> dict[str, float]:
    return {"low": low, "likely": likely, "high": high}


def with_plan(run: RunDirectory, closed: str | None = None) -> RunDirectory:
    planned = {
        "memory_mib": span(1000, 1500, 2000),
        "hours": span(0.5, 1.0, 2.0),
        "device_hours": span(1.0, 2.0, 4.0),
        "tokens": span(1000, 5000, 9000),
        "cost": None,
    }
    after = {"trial": "0000", "step": 5, **planned, "memory_mib": None, "hours": span(1.8, 2.0, 2.4)}
    write_json(run.plan, {"schema": 1, "planned": planned, "after_first_rung": after})
    spent = {"hours": 2.5, "device_hours": 5.0, "tokens": 9001, "cost": None, "closed": closed, "reported": {}}
    write_json(run.spent, {"schema": 1, **spent})
    append_metrics(run.trial("0001").metrics, {"step": 99, "eval_loss": 0.9, "memory_mib": 1650.0})
    return run


def test_each_quantity_has_its_plan_its_forecast_and_its_truth(make_run: MakeRun) -> None:
    lines = {line.name: line for line in plan_against_truth(with_plan(make_run()))}
    assert list(lines) == ["memory_mib", "hours", "device_hours", "tokens"]  # a cost that nobody prices is left out
    assert (lines["memory_mib"].truth, lines["memory_mib"].over_plan) == (1650.0, 1.1)
    assert lines["memory_mib"].forecast is None
    assert (lines["hours"].over_plan, lines["hours"].over_forecast) == (2.5, 1.25)
    assert verdict(lines["hours"]) == "2.50 x, outside the range"
    assert verdict(lines["memory_mib"]) == "1.10 x, within the range"
    assert verdict(lines["tokens"]) == "1.80 x, within the range"  # 9,001 of 9,000, which rounding may do


def test_a_run_without_a_plan_shows_nothing(make_run: MakeRun) -> None:
    run = make_run()
    assert plan_against_truth(run) == () and sections.plan_truth(()) == ""
    assert run_status(run).spent is None


def test_the_page_shows_the_table(make_run: MakeRun) -> None:
    page = sections.plan_truth(plan_against_truth(with_plan(make_run())))
    for words in ("Plan against truth", "1,650 MiB", "1,500 MiB (1,000 MiB to 2,000 MiB)", "2 h 00 min (1 h 48 min to"):
        assert words in page


def test_a_study_that_its_budget_closed_is_finished_and_says_why(make_run: MakeRun) -> None:
    run = with_plan(make_run(), closed="the budget's 9,000 tokens are used up")
    run.leaderboard.unlink()
    status = run_status(run)
    assert status.finished
    console = Console(file=io.StringIO(), width=160)
    console.print(status_view(status))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "closed: the budget's 9,000 tokens are used up" in text and "spent: 9,001 tokens, 2 h 30 min" in text
    assert "forecast after the first rung 2 h 00 min" in text


def test_what_is_spent_stands_before_its_limit() -> None:
    budget = Budget(tokens=1_000_000, cost=50.0, prices={"gpu": 2.5})
    words = spending_words(Spending(hours=0.5, device_hours=4.0, tokens=12_300, cost=10.0), budget)
    assert words == "12,300 of 1,000,000 tokens, 30 min 00 s, 4 device hours, cost 10.00 of 50"
    assert span_words("tokens", Span(5, 5, 5)) == "5" and span_words("hours", None) == "-"
