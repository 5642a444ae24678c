"""Schedulers that pause trials or copy weights, on real lanes: what they promise happens to the weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import ray

from raytune_ft import api
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Lane
from raytune_ft.events.stream import nobody
from raytune_ft.execution.lanes.lanes import lanes
from raytune_ft.metrics.report import value_in
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.reporting.read import read_trials
from raytune_ft.search.results.leaderboard import build_leaderboard
from raytune_ft.search.study.searcher import COPIES_ATTRIBUTE
from raytune_ft.training.metrics_log import read_metrics

RATE, DECAY = "train.learning_rate", "train.weight_decay"
RANGE = {RATE: {"loguniform": [1e-6, 1e-2]}}

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import a test's file


@pytest.fixture(scope="module")
def dispatcher(cluster: None, lane_experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Of one warm lane."""
    run = RunDirectory(tmp_path_factory.mktemp("lanes"))
    with lanes(lane_experiment, Lane(packed=1), run, 1) as dispatcher:
        yield dispatcher


@pytest.fixture
def search_on(
    dispatcher: Any, tune_on: Callable[..., Any], toy_experiment: Callable[..., Path]
) -> Callable[..., tuple[RunDirectory, optuna.Study]]:
    """A sweep on the lane, over the learning rates and no others."""

    def search(
        name: str, rates: list[float], scheduler: dict[str, Any], at_once: int = 1, **train: Any
    ) -> tuple[RunDirectory, optuna.Study]:
        settings = {
            "space": {"parameters": RANGE, "start_from": [{RATE: rate} for rate in rates]},
            "scheduler": scheduler,
            "trials": len(rates),
            "max_concurrent": at_once,
        }
        train = {"per_device_train_batch_size": 8, "max_steps": 12, "dtype": "float32", **train}
        experiment = api.load_experiment(toy_experiment(name=name, search=settings, train=train))
        run, study = tune_on(dispatcher, 1, experiment, nobody)
        build_leaderboard(experiment, run)
        return run, study

    return search


def curve(run: RunDirectory, trial: str) -> list[tuple[int, float]]:
    return [(report["step"], value_in(report, "eval_loss")) for report in read_metrics(run.trial(trial).metrics)]


@pytest.mark.parametrize("at_once", [1, 2])
def test_hyperband_pauses_trials_whose_curves_are_those_of_trials_that_never_paused(search_on, at_once: int) -> None:
    rates = [1e-2, 1e-5, 1e-3, 5e-3, 2e-3]
    straight, _ = search_on("straight", rates, {"type": "none"}, at_once, eval_steps=4)
    scheduler = {"type": "hyperband", "grace_period": 4, "reduction_factor": 3}
    paused, study = search_on("paused", rates, scheduler, at_once)
    outcomes = [read_json(paused.trial(f"{number:04d}").outcome) for number in range(5)]
    # The first bracket has three trials that wait for one another at step 4; the second has two that run to the end.
    assert [outcome["outcome"] for outcome in outcomes] == ["completed", "pruned", "pruned", "completed", "completed"]
    assert [outcome["step"] for outcome in outcomes] == [12, 4, 4, 12, 12]
    assert outcomes[1]["reason"] == "stopped by hyperband at step 4"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "PRUNED", "COMPLETE", "COMPLETE"]
    assert [step for step, _ in curve(paused, "0000")] == [4, 12]
    for trial in ("0000", "0001", "0002", "0003"):
        expected = dict(curve(straight, trial))
        for step, loss in curve(paused, trial):
            assert loss == pytest.approx(expected[step], rel=1e-6)
    assert study.trials[1].intermediate_values == {4: pytest.approx(curve(paused, "0001")[0][1])}


def test_an_exploit_copies_weights_and_optimizer_and_goes_on_with_a_new_rate(search_on) -> None:
    scheduler = {"type": "pbt", "perturbation_interval": 4, "quantile_fraction": 0.25}
    run, study = search_on("pbt", [1e-2, 8e-3, 6e-3, 1e-6], scheduler)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    copies = {f"{trial.number:04d}": trial.user_attrs.get(COPIES_ATTRIBUTE, []) for trial in study.trials}
    assert sum(map(len, copies.values())) == 2  # one of four at step 4, and one at step 8
    first = copies["0003"][0]
    donor = first["copied"]["trial"]
    assert first["copied"]["step"] == 4 and donor != "0003"

    lines = read_metrics(run.trial("0003").metrics)
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert lines[0]["checkpoint"] is None and "copied_from" not in lines[0]  # its curve is there, its weights are not
    assert lines[1]["copied_from"] == donor
    assert lines[1]["parameters"] == first["parameters"] != {RATE: 1e-6}
    donors = dict(curve(run, donor))
    assert value_in(lines[0], "eval_loss") > 1.5 * donors[4]  # it had learned nothing
    assert (
        value_in(lines[1], "eval_loss") < value_in(lines[0], "eval_loss") / 1.5
    )  # four steps from where the donor was
    assert lines[1]["tokens"] == read_metrics(run.trial(donor).metrics)[1]["tokens"]

    config = read_json(run.trial("0003").config)
    assert config["parameters"] == copies["0003"][-1]["parameters"]
    assert config["experiment"]["train"]["learning_rate"] == config["parameters"][RATE]
    assert config["copied"] == copies["0003"][-1]["copied"]
    board = {row["trial"]: row for row in read_json(run.leaderboard)["rows"]}
    assert board["0003"]["parameters"] == config["parameters"]
    seen = next(record for record in read_trials(run) if record.trial == "0003")
    assert [point.step for point in seen.points] == [4, 8, 12]


def test_pb2_chooses_the_copies_settings_with_a_model(search_on) -> None:
    scheduler = {"type": "pb2", "perturbation_interval": 3, "quantile_fraction": 0.5}
    _, study = search_on("pb2", [1e-2, 5e-3, 1e-4, 1e-6], scheduler)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    copies = [copy for trial in study.trials for copy in trial.user_attrs.get(COPIES_ATTRIBUTE, [])]
    assert len(copies) == 3 * 2
    assert all(1e-6 <= copy["parameters"][RATE] <= 1e-2 for copy in copies)
    assert len({copy["parameters"][RATE] for copy in copies}) > 3


def test_a_killed_hyperband_sweep_goes_on_and_ends_with_exactly_the_asked_trials(
    sweep_command: Any, toy_experiment: Callable[..., Path], tmp_path: Path
) -> None:
    scheduler = {"type": "hyperband", "grace_period": 100, "reduction_factor": 3}
    search = {"space": {"parameters": RANGE}, "scheduler": scheduler, "trials": 5}
    train = {"per_device_train_batch_size": 8, "max_steps": 300, "dtype": "float32"}
    experiment = toy_experiment(name="killed", search=search, train=train)
    run = RunDirectory(tmp_path / "runs/killed")
    killed = sweep_command.start(experiment)
    sweep_command.wait_for(killed, "trial 0001: step 100")  # two trials wait at the rung for the third
    sweep_command.kill(killed)
    before = {name: read_metrics(run.trial(name).metrics) for name in ("0000", "0001")}
    assert all(before.values())

    resumed = sweep_command.start(experiment, "--resume", "--json")
    out, log = resumed.communicate(timeout=900)
    assert resumed.returncode == 0, log
    board = json.loads(out)["rows"]
    assert sorted(row["trial"] for row in board) == [f"{number:04d}" for number in range(5)]
    study = optuna.load_study(study_name="killed", storage=f"sqlite:///{run.study}")
    assert sorted(trial.state.name for trial in study.trials) == ["COMPLETE"] * 3 + ["PRUNED"] * 2
    for name, lines in before.items():
        assert read_metrics(run.trial(name).metrics)[: len(lines)] == lines  # what was trained is not trained again
