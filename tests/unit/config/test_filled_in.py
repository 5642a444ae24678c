"""Defaults that follow from the objective and the method: each is filled in, and what is written stays."""

from __future__ import annotations

from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.filled_in import filled_in

RATE = 2e-4
CUSTOM = {"type": "custom", "trainer": "mine.py:train", "metrics": {"score": "max", "cost": "min"}}


def fill(**values: Any) -> Any:
    return filled_in(values, RATE)


@pytest.mark.parametrize("values", [{}, {"name": "x"}, {"objective": {}, "method": {"r": 4}, "search": {"trials": 2}}])
def test_supervised_lora_needs_nothing(values: dict[str, Any]) -> None:
    assert filled_in(values, RATE) == values


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_what_is_no_mapping_is_left_to_who_reports_it(values: Any) -> None:
    assert filled_in(values, RATE) is values


@pytest.mark.parametrize(
    "values", [{"objective": {"type": "dp0"}}, {"objective": {"type": "dpo"}, "method": {"type": 1}}]
)
def test_an_unknown_type_fills_nothing_in(values: dict[str, Any]) -> None:
    assert filled_in(values, RATE) is values


@pytest.mark.parametrize(
    ("objective", "method", "rate"),
    [("sft", "full", 2e-5), ("dpo", "lora", 2e-5), ("dpo", "qlora", 2e-5), ("dpo", "full", 2e-6)],
)
def test_the_rate_is_that_of_objective_and_method_together(objective: str, method: str, rate: float) -> None:
    sections = {"objective": {"type": objective}, "method": {"type": method}}
    assert fill(**sections)["train"] == {"learning_rate": rate}
    assert fill(**sections, train={"max_steps": 3})["train"] == {"learning_rate": rate, "max_steps": 3}
    assert fill(**sections, train=None)["train"] == {"learning_rate": rate}
    assert fill(**sections, train={"learning_rate": 0.5})["train"] == {"learning_rate": 0.5}


@pytest.mark.parametrize(("objective", "method"), [("sft", "lora"), ("sft", "qlora")])
def test_the_rate_is_left_to_the_section_where_it_is_the_common_one(objective: str, method: str) -> None:
    assert "train" not in fill(objective={"type": objective}, method={"type": method})


def test_preferences_have_their_format_and_metrics() -> None:
    found = fill(objective={"type": "dpo"}, data={"train": "t"})
    assert found["data"] == {"train": "t", "format": "preference"}
    assert found["evaluate"] == {"metrics": ["preference_accuracy", "loss"]}
    written = {"data": {"train": "t", "format": "preference_messages"}, "evaluate": {"metrics": ["loss"]}}
    found = fill(objective={"type": "dpo"}, **written)
    assert {key: found[key] for key in written} == written


def test_a_section_that_is_none_is_left_to_who_reports_it() -> None:
    assert fill(objective={"type": "dpo"}, data="train.jsonl", evaluate=["loss"])["data"] == "train.jsonl"


def test_a_trainer_of_ones_own_needs_neither_base_nor_rows() -> None:
    found = fill(objective=CUSTOM)
    assert (found["base_model"], found["data"]) == ("", {"train": ""})
    assert "evaluate" not in found and "train" not in found
    found = fill(objective=CUSTOM, base_model="base", data={"train": "rows.jsonl"})
    assert (found["base_model"], found["data"]) == ("base", {"train": "rows.jsonl"})


@pytest.mark.parametrize(
    ("objective", "metric", "mode"), [({"type": "dpo"}, "eval_preference_accuracy", "max"), (CUSTOM, "score", "max")]
)
def test_a_search_that_names_no_metric_goes_by_the_objectives_first(
    objective: dict[str, Any], metric: str, mode: str
) -> None:
    assert fill(objective=objective, search={"trials": 2})["search"] == {"trials": 2, "metric": metric, "mode": mode}
    assert fill(objective=objective, search={"mode": "min"})["search"] == {"metric": metric, "mode": "min"}
    for written in ({"metric": "eval_loss"}, {"metrics": [{"name": "eval_loss"}]}):
        assert fill(objective=objective, search=written)["search"] == written
    assert "search" not in fill(objective=objective)


@pytest.mark.parametrize("metrics", [None, {}, ["score"], "score"])
def test_a_custom_objective_without_metrics_is_left_to_who_reports_it(metrics: Any) -> None:
    found = fill(objective={**CUSTOM, "metrics": metrics}, search={"trials": 2})
    assert found["search"] == {"trials": 2}


def test_what_was_read_stays_as_it_was() -> None:
    values: dict[str, Any] = {"objective": {"type": "dpo"}, "data": {"train": "t"}, "search": {"trials": 2}}
    filled_in(values, RATE)
    assert values == {"objective": {"type": "dpo"}, "data": {"train": "t"}, "search": {"trials": 2}}


def test_an_experiment_is_filled_in_from_models_as_from_text() -> None:
    written: dict[str, Any] = {"name": "x", "base_model": "b", "data": {"train": "t"}, "objective": {"type": "dpo"}}
    experiment = Experiment.model_validate(written)
    assert experiment.data.format == "preference" and experiment.evaluate.metrics == ["preference_accuracy", "loss"]
    again = Experiment.model_validate({**written, "objective": experiment.objective})
    assert again == experiment == Experiment.model_validate(experiment.model_dump(mode="json"))
