"""Algorithms whose configurations are decided beforehand, and which spaces an algorithm takes."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from raytune_ft.config.load import load_experiment
from raytune_ft.config.search.fits import algorithm_warnings
from raytune_ft.config.search.grid import MOST, axis, lattice
from raytune_ft.config.search.search import Parameter, SearchSpace
from raytune_ft.errors import InputError
from raytune_ft.search.sampling.samplers import make_sampler
from raytune_ft.search.sampling.space import suggest
from raytune_ft.search.study.study import open_study, tell
from raytune_ft.training.outcome import Outcome, OutcomeKind

RATE, RANK = "train.learning_rate", "method.r"
CONDITIONAL = {
    "parameters": {
        RATE: {"loguniform": [1e-4, 1e-2]},
        RANK: {"choice": [4, 8, 16], "when": {"method.type": "lora"}},
    }
}
NESTED = {  # 2 ranks x (3 dropouts, or none)
    "parameters": {
        "method.use_rslora": {"choice": [True, False]},
        RANK: {"choice": [4, 8]},
        "method.dropout": {"choice": [0.0, 0.1, 0.2], "when": {"method.use_rslora": True}},
    }
}
LEARNING = [
    {"type": "tpe"},
    {"type": "gp", "n_startup_trials": 6},
    {"type": "cmaes", "population_size": 4},
    {"type": "nsga2", "population_size": 3},
    {"type": "nsga3", "population_size": 3},
]
DRAWING: list[dict[str, Any]] = [{"type": "random"}, {"type": "quasi_random"}, {"type": "grid"}]


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
    tried = proposals(make_experiment(space=NESTED, algorithm={"type": "grid"}, trials=8), run, 8)
    assert len({str(sorted(each.items())) for each in tried}) == 8
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
            {"algorithm": {"type": "gp"}, "space": CONDITIONAL},
            r"toy\.yaml:\d+: method\.r\.when: gp models only settings that every trial has; use tpe, or remove it",
        ),
        (
            {"algorithm": {"type": "cmaes"}, "space": CONDITIONAL},
            r"toy\.yaml:\d+: method\.r\.when: cmaes models only settings that every trial has; use tpe, or remove it",
        ),
        (
            {"algorithm": {"type": "cmaes"}, "space": {"parameters": {RANK: {"choice": [4, 8]}}}},
            r"toy\.yaml:\d+: search\.algorithm: cmaes moves only ranges, and the space has only choices; use tpe",
        ),
        (
            {"algorithm": {"type": "cmaes"}, "metrics": [{"name": "eval_loss"}, {"name": "tokens"}]},
            r"toy\.yaml:\d+: search\.algorithm: cmaes takes one metric, and there are eval_loss, tokens; use nsga2",
        ),
        (
            {"algorithm": {"type": "nsga2", "population_size": 4}},
            "4 trials are one generation of 4, drawn at random; raise search.trials, or lower nsga2's population_size",
        ),
        (
            {"algorithm": {"type": "nsga3", "population_size": 1}},
            r"search\.algorithm\.population_size: 1: input should be greater than or equal to 2",
        ),
        (
            {"algorithm": {"type": "nsga2", "mutation_prob": 1.5}},
            r"search\.algorithm\.mutation_prob: 1\.5: input should be less than or equal to 1",
        ),
        ({"algorithm": {"type": "cmaes", "population_size": 3}}, "input should be greater than or equal to 4"),
        (
            {"algorithm": {"type": "grid"}, "space": NESTED, "trials": 9},
            "search.trials: 9 trials, and the grid has 8 configurations; lower it to 8",
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


def test_a_grid_is_counted_without_its_conditions_only_where_it_has_none() -> None:
    rounds = {f"k{index}": {"randint": [1, 10], "when": {"a": 1}} for index in range(4)}
    space = SearchSpace.model_validate({"parameters": {**rounds, "a": {"choice": [1, 2]}}})
    assert len(lattice(space, 3, {})) == 3**4 + 1
    assert len(lattice(space, 10, {})) > MOST, "counting ends where it is of no use"
    repeated = SearchSpace.model_validate({"parameters": {"a": {"choice": [1, 1, 2]}, "b": {"uniform": [0.5, 0.5]}}})
    assert lattice(repeated, 4, {}) == [{"a": 1, "b": 0.5}, {"a": 2, "b": 0.5}]


def test_counting_a_grid_takes_no_optuna() -> None:
    code = "import sys, raytune_ft.config.load; sys.exit(bool({'optuna', 'numpy', 'ray', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cmaes_says_which_settings_it_does_not_move(toy_experiment, make_experiment) -> None:
    (warning,) = algorithm_warnings(make_experiment(algorithm={"type": "cmaes"}).search)
    assert warning == (
        "search.algorithm: cmaes moves only ranges; choices are drawn at random in every trial (method.r); "
        "use tpe, or write numbers as a range"
    )
    ranges = {"parameters": {RATE: {"loguniform": [1e-4, 1e-2]}, RANK: {"randint": [4, 16]}}}
    assert algorithm_warnings(make_experiment(algorithm={"type": "cmaes"}, space=ranges).search) == ()
    assert algorithm_warnings(make_experiment(algorithm={"type": "tpe"}).search) == ()


@pytest.mark.parametrize("algorithm", DRAWING, ids=lambda each: each["type"])
def test_who_does_not_learn_says_that_a_warm_start_is_of_little_use(make_experiment, algorithm) -> None:
    (warning,) = algorithm_warnings(make_experiment(algorithm=algorithm, warm_start=["runs/earlier"]).search)
    assert warning.startswith(f"search.warm_start: {algorithm['type']} does not learn from trials")


def study_in_memory(experiment: Any, known: int = 0) -> optuna.Study:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.create_study(sampler=make_sampler(experiment.search, experiment, known))


def play(experiment: Any, study: optuna.Study, count: int) -> list[dict[str, Any]]:
    """Trials whose third, sixth, ... diverges, and whose second, fifth, ... is stopped."""
    tried = []
    for number in range(count):
        trial = study.ask()
        tried.append(suggest(trial, experiment.search.space, experiment.model_dump(mode="json")))
        kind = (OutcomeKind.completed, OutcomeKind.pruned, OutcomeKind.diverged)[number % 3]
        loss = 1.0 + abs(math.log10(tried[-1].get(RATE, 1e-3)) + 3)
        trial.report(loss, 5)
        tell(study, trial, Outcome(kind, "", 45, loss))
    return tried


@pytest.mark.parametrize("algorithm", [*LEARNING, *DRAWING], ids=lambda each: each["type"])
def test_the_same_seed_gives_the_same_configurations_whatever_becomes_of_them(make_experiment, algorithm) -> None:
    one, same, other = (
        play(experiment, study_in_memory(experiment), 9)
        for experiment in (make_experiment(algorithm={**algorithm, "seed": seed}, trials=9) for seed in (3, 3, 4))
    )
    assert one == same != other


@pytest.mark.parametrize("algorithm", LEARNING, ids=lambda each: each["type"])
def test_a_restart_goes_on_in_the_same_way_each_time(make_experiment, algorithm) -> None:
    experiment = make_experiment(algorithm=algorithm, trials=12)
    tried = []
    for _ in range(2):
        study = study_in_memory(experiment)
        play(experiment, study, 6)
        study.sampler = study_in_memory(experiment, known=6).sampler
        tried.append(play(experiment, study, 3))
    assert tried[0] == tried[1]


@pytest.mark.parametrize(
    "algorithm",
    [each for each in [*LEARNING, *DRAWING] if each["type"] not in ("gp", "cmaes")],
    ids=lambda e: e["type"],
)
def test_conditions_hold_with_every_algorithm_that_takes_them(make_experiment, caplog, algorithm) -> None:
    space = {"parameters": {RATE: {"loguniform": [1e-4, 1e-2]}, **NESTED["parameters"]}}
    experiment = make_experiment(space=space, algorithm={**algorithm, "seed": 1}, trials=18)
    study = study_in_memory(experiment)
    optuna.logging.enable_propagation()
    tried = play(experiment, study, 18)
    assert all(("method.dropout" in each) == each["method.use_rslora"] for each in tried)
    assert {each["method.use_rslora"] for each in tried} == {True, False}
    assert [entry.message for entry in caplog.records if entry.levelname == "WARNING"] == []


def test_starting_points_are_of_the_first_generation(make_experiment) -> None:
    experiment = make_experiment(algorithm={"type": "nsga2", "population_size": 3, "crossover_prob": 0.0}, trials=9)
    study = study_in_memory(experiment)
    starts = [{RATE: rate, RANK: 8} for rate in (2e-4, 3e-4, 4e-4)]
    for start in starts:
        study.enqueue_trial(start)
    tried = play(experiment, study, 9)
    assert tried[:3] == starts
    # Without crossover a child is its parent but for what mutates; at random no rate comes twice.
    assert {each[RATE] for each in tried[3:]} & {start[RATE] for start in starts}


@pytest.mark.parametrize("kind", ["nsga2", "nsga3"])
def test_a_child_is_seldom_its_parent_again(make_experiment, kind: str) -> None:
    for seed in range(4):
        settings = {"type": kind, "population_size": 3, "mutation_prob": 0.0, "seed": seed}
        experiment = make_experiment(algorithm=settings, trials=18)
        study, plain = study_in_memory(experiment), study_in_memory(experiment)
        plain.sampler = plain.sampler._sampler  # Optuna's own, without what is around it
        ours, optunas = (len({str(each) for each in play(experiment, one, 18)}) for one in (study, plain))
        # Of 18; with three ranks, one that is drawn anew is sometimes the same.
        assert ours > 10 >= optunas
