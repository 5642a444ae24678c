"""A trial's report: what it says at a rung, as a line of `metrics.jsonl`.

It is a dict with `step`, what was spent until then (`samples`, `tokens`, `seconds`), `train_loss`, `checkpoint`, and
under `metrics` the value of each metric by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_ft.metrics.named import EVAL_LOSS

METRICS = "metrics"
_WRITTEN_AS = {"train_seconds": "seconds"}


def value_in(report: Mapping[str, Any], metric: str) -> float | None:
    """The metric's value in a report, or None.

    It is looked for among the report's metrics, then in the report itself: there stand what was spent, all values of
    a report on its way through Ray (`for_ray`), and those of runs before metrics had names.
    """
    named = report.get(METRICS)
    if isinstance(named, Mapping) and metric in named:
        value = named[metric]
    else:
        value = report.get(_WRITTEN_AS.get(metric, metric))
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def for_ray(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report as Ray Train and Ray Tune take it, who look for metrics in the report itself."""
    return {**report, **report.get(METRICS, {})}


def of_ray(result: Mapping[str, Any]) -> dict[str, Any]:
    """The report that `for_ray` was given, from what Ray passes on; keys that Ray added stay."""
    named = result.get(METRICS, {})
    return {key: value for key, value in result.items() if key not in named}


def with_metrics(report: Any) -> Any:
    """A line of `metrics.jsonl` with its metrics by name, also where it was written before they had names."""
    if not isinstance(report, dict) or METRICS in report or EVAL_LOSS not in report:
        return report
    others = {key: value for key, value in report.items() if key != EVAL_LOSS}
    return {**others, METRICS: {EVAL_LOSS: report[EVAL_LOSS]}}
