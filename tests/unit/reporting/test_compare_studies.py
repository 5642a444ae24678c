"""Two studies side by side: settings, the way to the best, and how far to trust it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
from rich.console import Console

from raytune_ft.config.search.goals import Metric
from raytune_ft.paths import RunDirectory, write_text
from raytune_ft.reporting.comparison import compare_runs
from raytune_ft.reporting.html.so_far import SoFar, best_so_far, standings, tokens_to
from raytune_ft.reporting.records import CurvePoint, Ending, TrialRecord
from raytune_ft.reporting.terminal.comparison_view import comparison_view

MakeRun = Callable[..., RunDirectory]


LOSS = Metric(name="eval_loss")


def text_of(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def record(name: str, *reports: tuple[int, float, str, float | None]) -> TrialRecord:
    """Reports are tokens, seconds, the clock's hour and minute, and eval_loss."""
    points = tuple(
        CurvePoint(
            step=step, metrics={"eval_loss": loss}, seconds=seconds, tokens=tokens, time=f"2026-11-22T{clock}:00+00:00"
        )
        for step, (tokens, seconds, clock, loss) in enumerate(reports, 1)
    )
    return TrialRecord(name, {}, points, Ending("completed"), 0.0, 0.0)


def test_what_running_trials_use_adds_up_in_the_order_of_their_reports() -> None:
    curve = best_so_far(
        [
            record("0000", (100, 36.0, "10:00", 0.9), (200, 72.0, "10:02", 0.7)),
            record("0001", (100, 36.0, "10:01", 0.8), (200, 72.0, "10:03", None)),
        ],
        LOSS,
    )
    assert curve == (SoFar(100, 0.01, 0.9), SoFar(200, 0.02, 0.8), SoFar(300, 0.03, 0.7), SoFar(400, 0.04, 0.7))


@pytest.mark.parametrize("jump", ["back", "ahead"])
def test_fault_18_a_clock_that_jumps_an_hour_changes_neither_hours_nor_order(jump: str) -> None:
    later = "09" if jump == "back" else "11"
    steady = [
        record("0000", (100, 36.0, "10:00", 0.9), (200, 72.0, "10:02", 0.7)),
        record("0001", (100, 36.0, "10:04", 0.8)),
        record("0002", (100, 36.0, "10:06", 0.6)),
    ]
    jumped = [
        record("0000", (100, 36.0, "10:00", 0.9), (200, 72.0, f"{later}:02", 0.7)),
        record("0001", (100, 36.0, f"{later}:04", 0.8)),
        record("0002", (100, 36.0, f"{later}:06", 0.6)),
    ]
    assert best_so_far(jumped, LOSS) == best_so_far(steady, LOSS)


def test_trials_without_stamps_stand_in_the_order_of_their_numbers() -> None:
    trials = [record("10000", (10, 1.0, "x", 0.1)), record("9999", (10, 1.0, "x", 0.2))]
    assert [point.best for point in best_so_far(trials, LOSS)] == [0.2, 0.1]


def test_studies_are_compared_up_to_what_the_smaller_one_used() -> None:
    found = standings([100.0, 200.0], [50.0, 400.0], ([0.9, 0.7], [0.8, 0.5]))
    assert [(each.at, each.first, each.second) for each in found] == [
        (25.0, None, None),
        (50.0, None, 0.8),
        (100.0, 0.9, 0.8),
        (150.0, 0.9, 0.8),
        (200.0, 0.7, 0.8),
    ]
    assert standings([], [1.0], ([], [0.5])) == []


def test_the_first_report_within_one_percent_counts() -> None:
    curve = [SoFar(10, 0.1, 0.9), SoFar(20, 0.2, 0.504), SoFar(30, 0.3, 0.5)]
    assert tokens_to(curve, 0.5, LOSS) == 20
    assert tokens_to(curve, 0.4, LOSS) is None


def test_a_comparison_shows_settings_the_way_and_both_intervals(make_run: MakeRun) -> None:
    one, two = make_run("one"), make_run("two", trials=8)
    text = two.experiment.read_text().replace("max_steps: 30", "max_steps: 31").replace("name: two", "name: other")
    write_text(two.experiment, text)
    both = compare_runs(one, two)
    assert both.settings == {"train.max_steps": (30, 31), "search.trials": (16, 8)}
    assert both.first.tokens > both.second.tokens > 0 and both.first.hours > both.second.hours
    assert both.at_tokens[-1].at == both.second.tokens
    assert both.at_tokens[-1].second == both.second.best
    shown = text_of(comparison_view(both))
    for words in (
        "settings that differ",
        "train.max_steps",
        "best so far after tokens",
        "they overlap",
        "another seed",
    ):
        assert words in shown
    assert json.loads(json.dumps(asdict(both)))["settings"]["search.trials"] == [16, 8]


def test_other_data_is_said_instead_of_a_verdict(make_run: MakeRun) -> None:
    shown = text_of(comparison_view(compare_runs(make_run("one"), make_run("two", fingerprint="0000" * 16))))
    assert "can't be compared" in shown and "overlap" not in shown


def test_another_base_is_a_doubt(make_run: MakeRun) -> None:
    one, two = make_run("one"), make_run("two")
    write_text(two.experiment, two.experiment.read_text().replace("smollm2-135m", "smollm2-360m"))
    assert any("base models differ" in doubt for doubt in compare_runs(one, two).warnings)
