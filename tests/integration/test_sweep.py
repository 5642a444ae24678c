"""Sweeps of a tiny Llama on one local Ray: what they leave behind, and how they fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from raytune_ft import api
from raytune_ft.errors import InputError
from raytune_ft.events.kinds import Ended, Event, Reported, Started
from raytune_ft.events.log import read_events
from raytune_ft.metrics.report import value_in
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.search.results.causes import NothingWon
from raytune_ft.search.single import train_once
from raytune_ft.training.metrics_log import read_metrics

LEARNING_RATE = "train.learning_rate"
ALPHA = "method.alpha"
OVERFLOWING = 10**45  # beyond float32: the adapters' output is no number, and neither is the loss
HUGE = 10**38  # the first gradient's norm is infinite


class Recorder:
    """Remembers what a sweep told its watcher."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, Any]] = []

    def __call__(self, event: Event) -> None:
        match event:
            case Started(trial, parameters):
                self.events.append(("started", trial, parameters))
            case Reported(trial, report):
                self.events.append(("reported", trial, report))
            case Ended(trial, outcome):
                self.events.append(("ended", trial, str(outcome.kind)))


def states(run: RunDirectory, name: str = "toy") -> dict[int, str]:
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{run.study}")
    return {trial.number: trial.state.name for trial in study.trials}


def test_a_sweep_ranks_its_trials_and_a_diverged_one_is_a_failure_that_stops_nothing(
    cluster: None, toy_experiment: Callable[..., Path], tmp_path: Path
) -> None:
    """Fault 10 on lanes, and fault 16: other settings are refused at the end."""
    search = {
        "space": {
            "parameters": {LEARNING_RATE: {"loguniform": [1e-3, 1e-2]}, ALPHA: {"choice": [16, HUGE]}},
            "start_from": [
                {LEARNING_RATE: 1e-2, ALPHA: 16},
                {LEARNING_RATE: 1e-2, ALPHA: HUGE},
                {LEARNING_RATE: 1e-3, ALPHA: 16},
            ],
        },
        "scheduler": {"type": "asha", "grace_period": 4, "reduction_factor": 2},
        "trials": 3,
    }
    train = {"per_device_train_batch_size": 8, "max_steps": 16, "dtype": "float32"}
    watcher = Recorder()
    experiment = api.load_experiment(toy_experiment(search=search, train=train))
    result = api.run_sweep(experiment, listener=watcher)

    by_trial = {row.trial: row for row in result.board}
    assert result.winner.trial == "0000"
    assert by_trial["0001"].outcome == "diverged" and by_trial["0001"].rank is None
    assert "lower train.learning_rate" in by_trial["0001"].reason
    assert by_trial["0002"].outcome == "pruned" and by_trial["0002"].step < 16
    assert states(result.run) == {0: "COMPLETE", 1: "FAIL", 2: "PRUNED"}
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{result.run.study}")
    assert sorted(study.trials[0].intermediate_values) == [4, 8, 16]
    assert 4 in study.trials[2].intermediate_values and 16 not in study.trials[2].intermediate_values

    curve = read_metrics(result.run.trial("0000").metrics)
    assert [report["step"] for report in curve] == [4, 8, 16]
    assert [report["samples"] for report in curve] == [32, 64, 128]
    assert value_in(curve[-1], "eval_loss") < value_in(curve[0], "eval_loss")
    winner = read_json(result.run.winner)
    adapter = result.run.root / winner["adapter"]
    assert read_json(adapter / "adapter_config.json")["r"] == 8
    assert (adapter / "adapter_model.safetensors").stat().st_size > 0
    left = {path.relative_to(result.run.trials).as_posix() for path in result.run.trials.glob("*/checkpoints/*")}
    assert left == {path.removeprefix("trials/") for path in (winner["adapter"], by_trial["0002"].checkpoint)}
    assert not list(result.run.trials.rglob("optimizer*"))
    assert [event for event in watcher.events if event[0] == "ended"] == [
        ("ended", "0000", "completed"),
        ("ended", "0001", "diverged"),
        ("ended", "0002", "pruned"),
    ]

    comparison = api.evaluate(result.run, print)
    assert comparison["rows"] == 32
    assert comparison["systems"]["winner"]["loss"] < comparison["systems"]["base"]["loss"]
    assert comparison["difference"]["loss"]["high"] < 0
    with pytest.raises(InputError, match="already holds trials"):
        api.run_sweep(experiment)
    with pytest.raises(InputError, match=r"train.max_steps: 16 -> 17"):
        api.run_sweep(api.load_experiment(tmp_path / "toy.yaml", ["train.max_steps=17"]), resume=True)


def test_when_every_trial_fails_the_causes_are_listed_and_there_is_no_winner(
    cluster: None, toy_experiment: Callable[..., Path]
) -> None:
    """Fault 12, and fault 10 with the isolated runner."""
    overflowing = {ALPHA: {"choice": [OVERFLOWING, 2 * OVERFLOWING]}}
    search = {"space": {"parameters": overflowing}, "scheduler": {"type": "none"}, "trials": 2, "max_concurrent": 2}
    train = {"per_device_train_batch_size": 8, "max_steps": 4, "dtype": "float32"}
    experiment = api.load_experiment(toy_experiment(search=search, train=train, runner={"type": "isolated"}))
    with pytest.raises(NothingWon, match=r"none of 2 trials ended with an adapter.* \(trial 0000 diverged: ") as caught:
        api.run_sweep(experiment)
    assert caught.value.exit_code == 1
    assert sorted(name for cause in caught.value.causes for name in cause.trials) == ["0000", "0001"]
    run = RunDirectory(Path(experiment.output_dir) / "toy")
    assert not run.winner.exists()
    assert [row["outcome"] for row in json.loads(run.leaderboard.read_text())["rows"]] == ["diverged"] * 2
    assert set(states(run).values()) == {"FAIL"}
    with pytest.raises(InputError, match=r"winner\.json"):
        api.promote(run)


def test_more_workers_than_the_cluster_has_is_an_error_before_the_first_trial(
    cluster: None, toy_experiment: Callable[..., Path]
) -> None:
    experiment = api.load_experiment(toy_experiment(resources={"workers": 3, "cpus_per_worker": 7}))
    with pytest.raises(InputError, match=r"1 lane\(s\) x 3 workers x 7 CPU = 21 CPU, and the cluster has"):
        api.run_sweep(experiment)
    assert not (Path(experiment.output_dir) / "toy" / "trials").exists()


def test_deepspeed_on_two_workers_trains_the_same_curve_as_ddp(
    cluster: None, toy_experiment: Callable[..., Path]
) -> None:
    curves, bases = {}, []
    for strategy in ({"type": "ddp"}, {"type": "deepspeed", "zero_stage": 2}):
        name = f"toy-{strategy['type']}"
        train = {
            "learning_rate": 3e-3,
            "per_device_train_batch_size": 4,
            "max_steps": 6,
            "eval_steps": 3,
            "dtype": "float32",
        }
        resources = {"workers": 2, "strategy": strategy}
        isolated = {"type": "isolated"}  # where DeepSpeed itself trains
        tracking = {"tensorboard": strategy["type"] == "ddp"}
        path = toy_experiment(
            name=name, train=train, resources=resources, search=None, runner=isolated, tracking=tracking
        )
        result = train_once(api.load_experiment(path), Recorder())
        told = [line["event"] for line in read_events(result.run.events) if line["event"] != "progressed"]
        assert told == ["started", "reported", "reported", "ended", "closed"]
        assert tracking["tensorboard"] is any(result.run.root.glob("tensorboard/0000/events.out.tfevents.*"))
        curves[strategy["type"]] = read_metrics(result.run.trial("0000").metrics)
        bases.append(value_in(read_json(result.run.base_loss), "eval_loss"))
    assert bases[1] == pytest.approx(bases[0], rel=1e-4) and bases[0] > value_in(curves["ddp"][-1], "eval_loss")
    for ddp, deepspeed in zip(curves["ddp"], curves["deepspeed"], strict=True):
        assert deepspeed["samples"] == ddp["samples"]
        assert deepspeed["train_loss"] == pytest.approx(ddp["train_loss"], rel=1e-3)
        assert value_in(deepspeed, "eval_loss") == pytest.approx(value_in(ddp, "eval_loss"), rel=1e-3)
