"""The space as Optuna draws from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from raytune_ft.config.search.search import SearchSpace
from raytune_ft.search.sampling.space import suggest

optuna.logging.set_verbosity(optuna.logging.WARNING)


def draws(parameters: dict[str, Any], count: int = 40, defaults: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = SearchSpace.model_validate({"parameters": parameters})
    return [suggest(study.ask(), space, defaults or {}) for _ in range(count)]


def test_each_distribution_stays_between_its_ends_and_reaches_them() -> None:
    drawn = draws(
        {
            "log": {"loguniform": [1e-5, 1e-1]},
            "flat": {"uniform": [-1, 1]},
            "whole": {"randint": [1, 3]},
            "any": {"choice": ["a", None, 2]},
        },
        200,
    )
    logs = sorted(each["log"] for each in drawn)
    assert 1e-5 <= logs[0] < 1e-4 and 1e-2 < logs[-1] <= 1e-1
    assert 5e-4 < logs[100] < 2e-3, "uniform in the logarithm"
    assert -1 <= min(each["flat"] for each in drawn) < 0 < max(each["flat"] for each in drawn) <= 1
    assert {each["whole"] for each in drawn} == {1, 2, 3}
    assert {each["any"] for each in drawn} == {"a", None, 2}


def test_a_dimension_of_one_value_is_that_value() -> None:
    assert draws({"log": {"loguniform": [0.5, 0.5]}, "whole": {"randint": [3, 3]}, "any": {"choice": [7]}}, 1) == [
        {"log": 0.5, "whole": 3, "any": 7}
    ]


@pytest.mark.parametrize("conditional_first", [True, False])
def test_a_condition_on_a_drawn_value_holds_in_whatever_order_it_is_written(conditional_first: bool) -> None:
    condition = {"b": {"choice": [1, 2], "when": {"a": "x"}}}
    other = {"a": {"choice": ["x", "y"]}}
    drawn = draws(condition | other if conditional_first else other | condition)
    assert {each["a"] for each in drawn} == {"x", "y"}
    assert all(("b" in each) == (each["a"] == "x") for each in drawn)


def test_a_condition_on_a_setting_that_is_not_searched_reads_the_experiment() -> None:
    parameters = {"method.use_rslora": {"choice": [True], "when": {"method.type": "lora"}}}
    assert draws(parameters, 1, {"method": {"type": "lora"}}) == [{"method.use_rslora": True}]
    assert draws(parameters, 1, {"method": {"type": "full"}}) == [{}]


def test_conditions_chain() -> None:
    drawn = draws(
        {
            "c": {"choice": [1], "when": {"b": 1}},
            "b": {"choice": [1, 2], "when": {"a": "x"}},
            "a": {"choice": ["x", "y"]},
        }
    )
    assert all(("b" in each) == (each["a"] == "x") and ("c" in each) == (each.get("b") == 1) for each in drawn)
    assert {len(each) for each in drawn} == {1, 2, 3}


def test_conditions_in_a_circle_do_not_hang() -> None:
    drawn = draws({"a": {"choice": [1], "when": {"b": 1}}, "b": {"choice": [1], "when": {"a": 1}}}, 1, {"b": 1})
    assert drawn == [{"a": 1, "b": 1}]


@pytest.mark.filterwarnings("ignore:Choices for a categorical")
def test_choices_that_are_lists_or_mappings_survive_a_study_on_disk(tmp_path: Path) -> None:
    space = SearchSpace.model_validate(
        {
            "parameters": {
                "method.target_modules": {"choice": [["q_proj"], ["q_proj", "v_proj"]]},
                "resources.strategy": {"choice": [{"type": "ddp"}, {"type": "deepspeed", "zero_stage": 2}]},
            }
        }
    )
    storage = f"sqlite:///{tmp_path}/study.db"
    for _ in range(2):  # the second time over what the first one wrote
        sampler = optuna.samplers.TPESampler(n_startup_trials=1, seed=0)
        study = optuna.create_study(study_name="s", storage=storage, load_if_exists=True, sampler=sampler)
        for _ in range(3):
            trial = study.ask()
            chosen = suggest(trial, space, {})
            assert chosen["method.target_modules"] in space.parameters["method.target_modules"].choice
            assert chosen["resources.strategy"] in space.parameters["resources.strategy"].choice
            study.tell(trial, 1.0)
    assert len(study.trials) == 6
