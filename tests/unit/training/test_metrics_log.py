"""A trial's curve survives a writer that was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytune_ft.training.metrics_log import append_metrics, read_metrics, write_metrics

REPORTS = [
    {"step": 5, "metrics": {"eval_loss": 0.5}},
    {"step": 10, "metrics": {"eval_loss": 0.25}, "checkpoint": None},
]


def test_reports_come_back_in_order(tmp_path: Path) -> None:
    for report in REPORTS:
        append_metrics(tmp_path / "metrics.jsonl", report)
    assert read_metrics(tmp_path / "metrics.jsonl") == REPORTS


def test_a_trial_that_has_not_reported_has_no_curve(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    (tmp_path / "metrics.jsonl").touch()
    assert read_metrics(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("half", ['{"step": 15, "eval', '{"step": 15}', "\n", "   "])
def test_the_half_line_of_a_killed_writer_is_left_out(tmp_path: Path, half: str) -> None:
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, REPORTS)
    with path.open("a") as stream:
        stream.write(half)
    assert read_metrics(path) == REPORTS


def test_a_restarted_trial_replaces_the_reports_that_it_makes_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, REPORTS)
    with path.open("a") as stream:
        stream.write('{"step": 15, "ev')
    write_metrics(path, [report for report in read_metrics(path) if report["step"] <= 5])
    append_metrics(path, {"step": 10, "metrics": {"eval_loss": 0.3}})
    assert read_metrics(path) == [REPORTS[0], {"step": 10, "metrics": {"eval_loss": 0.3}}]


def test_a_line_of_before_metrics_had_names_is_read_with_its_own(tmp_path: Path) -> None:
    append_metrics(tmp_path / "metrics.jsonl", {"step": 5, "eval_loss": 0.5, "tokens": 7})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 5, "tokens": 7, "metrics": {"eval_loss": 0.5}}]
