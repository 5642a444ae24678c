"""A report's metrics have names, wherever the report is on its way."""

from __future__ import annotations

import pytest

from raytune_ft.metrics.report import for_ray, of_ray, value_in, with_metrics

REPORT = {"step": 5, "seconds": 7.0, "tokens": 90, "adapter_mib": 2.0, "metrics": {"eval_loss": 0.5}}


@pytest.mark.parametrize("report", [REPORT, for_ray(REPORT), {**REPORT, "metrics": {}, "eval_loss": 0.5}])
def test_a_value_is_found_by_its_name(report) -> None:
    assert value_in(report, "eval_loss") == 0.5
    assert (value_in(report, "train_seconds"), value_in(report, "tokens")) == (7.0, 90)
    assert value_in(report, "accuracy") is None and value_in({"metrics": {"eval_loss": None}}, "eval_loss") is None


def test_the_name_under_metrics_counts_more_than_an_older_one_beside_it() -> None:
    assert value_in({"eval_loss": 9.0, "metrics": {"eval_loss": 0.5}}, "eval_loss") == 0.5


def test_ray_finds_metrics_in_the_report_itself_and_gives_the_report_back() -> None:
    assert for_ray(REPORT)["eval_loss"] == 0.5 and of_ray(for_ray(REPORT)) == REPORT


def test_a_line_of_before_metrics_had_names_gets_them() -> None:
    assert with_metrics({"step": 5, "eval_loss": 0.5}) == {"step": 5, "metrics": {"eval_loss": 0.5}}
    assert with_metrics(REPORT) is REPORT and with_metrics({"step": 5}) == {"step": 5} and with_metrics(None) is None
