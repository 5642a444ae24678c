"""Sweeps of a tiny Llama by each algorithm, the later ones with what the first found: its trials, or a portfolio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from raytune_ft import api
from raytune_ft.config.search.portfolio import read_portfolio
from raytune_ft.paths import read_json
from raytune_ft.search.earlier_studies.portfolio_build import build_portfolio, write_portfolio

RATE, RANK = "train.learning_rate", "method.r"
SPACE = {"parameters": {RATE: {"loguniform": [1e-3, 2e-2]}, RANK: {"randint": [2, 8]}}}
CHOICES = {"parameters": {RATE: SPACE["parameters"][RATE], RANK: {"choice": [4, 8]}}}
TRAIN = {"per_device_train_batch_size": 4, "max_steps": 2, "dtype": "float32"}


def sweep(path: Path) -> tuple[Any, list[optuna.trial.FrozenTrial], list[str]]:
    """The result, the study's trials as they are on disk, and what was said."""
    said: list[str] = []
    experiment = api.load_experiment(path)
    result = api.run_sweep(experiment, log=said.append)
    study = optuna.load_study(study_name=experiment.name, storage=f"sqlite:///{result.run.study}")
    return result, study.trials, said


@pytest.mark.parametrize(
    "algorithm",
    [
        {"type": "quasi_random"},
        {"type": "gp", "n_startup_trials": 2},
        {"type": "cmaes", "population_size": 4},
        {"type": "nsga2", "population_size": 2},
    ],
    ids=lambda each: each["type"],
)
def test_a_sweep_by_each_algorithm_and_one_that_goes_on_from_its_trials(
    warm_lanes: None, toy_experiment: Callable[..., Path], algorithm: dict[str, Any]
) -> None:
    search = {"space": SPACE, "scheduler": {"type": "none"}, "trials": 4, "algorithm": algorithm}
    result, trials, said = sweep(toy_experiment(search=search, train=TRAIN))
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert len({str(trial.params) for trial in trials}) >= 3
    assert sorted(row.trial for row in result.board) == ["0000", "0001", "0002", "0003"]
    assert not [line for line in said if line.startswith("warm start")]

    again = {**search, "trials": 3, "warm_start": [str(result.run.root)]}
    longer = {**TRAIN, "max_steps": 3}
    warm, trials, said = sweep(toy_experiment(name="warm", search=again, train=longer))
    (line,) = [line for line in said if line.startswith("warm start")]
    assert line.endswith("2 of 4 trials of " + str(result.run.root) + ", weight 0.67 (2 steps instead of 3)")
    assert [trial.number for trial in trials] == [0, 1, 2] and len(warm.board) == 3
    assert trials[0].params == result.winner.parameters, "the best is tried first"
    assert read_json(warm.run.warm_start)["taken"][0]["trials"][0]["parameters"] == result.winner.parameters


def test_the_next_sweep_begins_with_what_the_first_one_found(
    warm_lanes: None, toy_experiment: Callable[..., Path], tmp_path: Path
) -> None:
    search = {"space": CHOICES, "scheduler": {"type": "none"}, "trials": 3, "algorithm": {"type": "random"}}
    first = api.run_sweep(api.load_experiment(toy_experiment(search=search)))
    built = build_portfolio([first.run.root], 2)
    to = tmp_path / "portfolio.yaml"
    write_portfolio(built.portfolio, to)
    best = read_portfolio(to).configurations[0].parameters
    assert {key: best[key] for key in (RATE, RANK)} == {
        RATE: pytest.approx(first.winner.parameters[RATE], rel=1e-3),
        RANK: first.winner.parameters[RANK],
    }

    search |= {"algorithm": {"type": "portfolio", "file": str(to), "first": 2}}
    second = api.run_sweep(api.load_experiment(toy_experiment(name="second", search=search)))
    tried = [read_json(second.run.trial(name).config)["parameters"] for name in ("0000", "0001", "0002")]
    wanted = [{key: entry.parameters[key] for key in (RATE, RANK)} for entry in built.portfolio.configurations]
    assert len(wanted) == 1  # of three trials, the other two are the median and worse
    assert tried[0] == wanted[0]
    assert tried[1] not in wanted and tried[2] not in wanted
