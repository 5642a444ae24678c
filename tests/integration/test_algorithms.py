"""Sweeps of a tiny Llama by each algorithm, the later ones with the trials of the first as a warm start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from raytune_ft import api
from raytune_ft.execution.cluster import ray_cluster
from raytune_ft.paths import read_json

RATE, RANK = "train.learning_rate", "method.r"
SPACE = {"parameters": {RATE: {"loguniform": [1e-3, 2e-2]}, RANK: {"randint": [2, 8]}}}
TRAIN = {"per_device_train_batch_size": 4, "max_steps": 2, "bf16": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_cluster():
        yield


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
    cluster: None, toy_experiment: Callable[..., Path], algorithm: dict[str, Any]
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
