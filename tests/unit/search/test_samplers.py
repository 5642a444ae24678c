"""Algorithms whose configurations are decided beforehand, and which spaces an algorithm takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.grid import axis
from raytune_ft.config.load import load_experiment
from raytune_ft.config.search import Parameter
from raytune_ft.errors import InputError
from raytune_ft.search.space import suggest
from raytune_ft.search.study import open_study, tell
from raytune_ft.training.outcome import Outcome, OutcomeKind

RATE, RANK = "train.learning_rate", "method.r"


def proposals(experiment: Any, run: Any, count: int) -> list[dict[str, Any]]:
    """What the next driver of the study tries; each ends at once."""
    study = open_study(experiment, experiment.search, run)
    tried = []
    for _ in range(count):
        trial = study.ask()
        tried.append(suggest(trial, experiment.search.space, experiment.model_dump(mode="json")))
        tell(study, trial, Outcome(OutcomeKind.completed, "", 45, 0.5))
    return tried


def test_a_grid_is_every_combination_once_also_over_a_restart(make_experiment, run) -> None:
    experiment = make_experiment(algorithm={"type": "grid", "points": 3}, trials=9)
    tried = proposals(experiment, run, 4) + proposals(experiment, run, 5)
    assert {each[RANK] for each in tried} == {4, 8, 16}
    rates = sorted({each[RATE] for each in tried})
    assert rates == pytest.approx([1e-4, 1e-3, 1e-2])
    assert len({(each[RATE], each[RANK]) for each in tried}) == 9


def test_a_grid_with_conditions_holds_each_configuration_that_applies_once(make_experiment, run) -> None:
    space = {
        "parameters": {
            "method.use_rslora": {"choice": [True, False]},
            RANK: {"choice": [4, 8]},
            "method.dropout": {"choice": [0.0, 0.1, 0.2], "when": {"method.use_rslora": True}},
        }
    }
    tried = proposals(make_experiment(space=space, algorithm={"type": "grid"}, trials=8), run, 8)
    assert len({str(sorted(each.items())) for each in tried}) == 8  # 2 ranks x (3 dropouts, or none)
    assert all(("method.dropout" in each) == each["method.use_rslora"] for each in tried)


def test_starting_points_come_first_and_take_nothing_from_a_grid(make_experiment, run) -> None:
    experiment = make_experiment(algorithm={"type": "grid", "points": 1}, trials=4)
    study = open_study(experiment, experiment.search, run)
    study.enqueue_trial({RANK: 16})
    tried = proposals(experiment, run, 4)
    assert tried[0][RANK] == 16 and 1e-4 <= tried[0][RATE] <= 1e-2
    assert sorted(each[RANK] for each in tried[1:]) == [4, 8, 16]
    assert [each[RATE] for each in tried[1:]] == pytest.approx([1e-3] * 3)


@pytest.mark.parametrize("sequence", ["sobol", "halton"])
def test_a_sequence_leaves_no_gap_also_over_a_restart(make_experiment, run, sequence: str) -> None:
    experiment = make_experiment(algorithm={"type": "quasi_random", "sequence": sequence}, trials=16)
    tried = proposals(experiment, run, 5) + proposals(experiment, run, 11)

    cells = {int((math.log10(each[RATE]) + 4) / 2 * 8) for each in tried}
    assert len(cells) >= 7  # of 8 cells of the range, with two draws a cell; independent ones leave one in nine empty
    assert {each[RANK] for each in tried} == {4, 8, 16}


@pytest.mark.parametrize(
    ("parameter", "points", "values"),
    [
        ({"uniform": [0.0, 1.0]}, 3, [0.0, 0.5, 1.0]),
        ({"uniform": [0.0, 1.0]}, 1, [0.5]),
        ({"uniform": [2.0, 2.0]}, 4, [2.0]),
        ({"loguniform": [1e-4, 1e-2]}, 3, [1e-4, 1e-3, 1e-2]),
        ({"randint": [1, 3]}, 9, [1, 2, 3]),
        ({"choice": ["a", "b"]}, 9, ["a", "b"]),
    ],
)
def test_the_axis_of_a_dimension_has_both_ends(parameter: dict[str, Any], points: int, values: list[Any]) -> None:
    assert axis(Parameter.model_validate(parameter), points) == pytest.approx(values) or values == ["a", "b"]
    if "choice" in parameter:
        assert axis(Parameter.model_validate(parameter), points) == values


@pytest.mark.parametrize(
    ("parameter", "low", "high"),
    [
        ({"uniform": [0.0, 1.0]}, 0.0, 1.0),
        ({"loguniform": [1e-4, 1e-2]}, 1e-4, 1e-2),
        ({"randint": [1, 3]}, 1, 3),
        ({"choice": ["a", "b"]}, "a", "b"),
    ],
)
def test_a_coordinate_spans_the_dimension(parameter: dict[str, Any], low: Any, high: Any) -> None:
    dimension = Parameter.model_validate(parameter)
    assert dimension.at(0.0) == low
    assert dimension.at(1.0 - 1e-12) == (pytest.approx(high) if isinstance(high, float) else high)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"algorithm": {"type": "grid", "points": 2}, "trials": 7},
            "search.trials: 7 trials, and the grid has 6 configurations; lower it to 6",
        ),
        ({"algorithm": {"type": "grid", "points": 5000}}, "the grid has more than 10000 configurations; lower"),
        (
            {
                "algorithm": {"type": "gp"},
                "space": {
                    "parameters": {
                        RATE: {"loguniform": [1e-4, 1e-2]},
                        RANK: {"choice": [4, 8, 16], "when": {"method.type": "lora"}},
                    }
                },
            },
            r"toy\.yaml:\d+: method\.r\.when: gp models only settings that every trial has; use tpe, or remove it",
        ),
    ],
)
def test_an_algorithm_that_can_not_take_the_space_says_so(
    toy_experiment: Callable[..., Path], search: dict[str, Any], message: str
) -> None:
    space = {"parameters": {RATE: {"loguniform": [1e-4, 1e-2]}, RANK: {"choice": [4, 8, 16]}}}
    settings = {"space": space, "trials": 4, "scheduler": {"type": "none"}, **search}
    with pytest.raises(InputError, match=message):
        load_experiment(toy_experiment(search=settings))


def test_a_grid_may_have_as_many_trials_as_configurations_and_starting_points(toy_experiment) -> None:
    space = {"parameters": {RANK: {"choice": [4, 8]}}, "start_from": [{RANK: 4}]}
    search = {"space": space, "trials": 3, "scheduler": {"type": "none"}, "algorithm": {"type": "grid"}}
    assert load_experiment(toy_experiment(search=search)).search.trials == 3
