"""Fills in the defaults that follow from other settings: an objective's metric and format, a method's learning rate."""

from __future__ import annotations

from typing import Any

from raytune_ft.config.data import DataFormat
from raytune_ft.config.methods.choice import DEFAULT as METHOD
from raytune_ft.config.methods.choice import METHODS
from raytune_ft.config.objectives.choice import DEFAULT as OBJECTIVE
from raytune_ft.config.objectives.choice import OBJECTIVES
from raytune_ft.metrics.named import EVAL_LOSS, Direction

NONE = ""
"""Stands for the base model, and for the training data, where the objective brings its own."""


def filled_in(values: Any, learning_rate: float) -> Any:
    """Returns the raw values of an experiment with the defaults that its objective and method decide.

    What was written stays; so does what is not a mapping, which is reported elsewhere.

    Args:
        values: The values, as they were read.
        learning_rate: The default of `train.learning_rate` for the default objective and method.
    """
    if not isinstance(values, dict):
        return values
    objective = OBJECTIVES.get(_type(values, "objective", OBJECTIVE))
    method = METHODS.get(_type(values, "method", METHOD))
    if objective is None or method is None:
        return values
    result = dict(values)
    if (rate := objective.rate * method.rate) != 1.0:
        _default(result, "train", "learning_rate", float(f"{learning_rate * rate:.6g}"))
    if objective.rows is None:
        result = {"base_model": NONE, **result}
        _default(result, "data", "train", NONE)
    elif objective.rows != DataFormat.prompt_completion.rows:
        fitting = next(each for each in DataFormat if each.rows == objective.rows)
        _default(result, "data", "format", fitting.value)
        _default(result, "evaluate", "metrics", list(objective.evaluated_by))
    leading, search = _leading(objective, values), result.get("search")
    if leading and leading[0] != EVAL_LOSS and isinstance(search, dict) and not {"metric", "metrics"} & search.keys():
        result["search"] = {**search, "metric": leading[0], "mode": search.get("mode", leading[1])}
    return result


def _type(values: dict[str, Any], section: str, default: str) -> str:
    section_values = values.get(section)
    if isinstance(section_values, dict):
        return str(section_values.get("type", default))
    return str(getattr(section_values, "type", default))


def _default(values: dict[str, Any], section: str, key: str, value: Any) -> None:
    if isinstance(inner := values.get(section) or {}, dict):
        values[section] = {key: value, **inner}


def _leading(objective: Any, values: dict[str, Any]) -> tuple[str, Direction] | None:
    """Returns the name and direction of the metric that leads; None where a custom objective names none."""
    reports = objective.reports
    if isinstance(reports, tuple):
        return reports[0].name, reports[0].direction
    named = (values.get("objective") or {}).get("metrics") if isinstance(values.get("objective"), dict) else None
    return next(iter(named.items()), None) if isinstance(named, dict) else None
