"""Lanes that can't be had for a while (fault 35): a sweep waits for them, or ends with its trials open."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from optuna.trial import TrialState

from raytune_ft import api
from raytune_ft.config.training import Lane
from raytune_ft.errors import LanesLost
from raytune_ft.execution.cluster import ray_cluster
from raytune_ft.execution.lanes.lanes import IMPORTS
from raytune_ft.execution.lanes.lanes import lanes as start_lanes
from raytune_ft.paths import RunDirectory
from raytune_ft.search.study.study import open_study
from raytune_ft.search.trials import trials
from raytune_ft.training.lane.orders import Start
from raytune_ft.training.outcome import Outcome
from raytune_ft.training.spec import TrialSpec

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import a test's file


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """As sweeps on lanes have it; each test has its CPUs for itself."""
    with ray_cluster(state_api=False, forked=IMPORTS):
        yield


def raises(experiment: Any, desk: Any, **more: Any) -> None:
    raise ValueError("the base has no layers")


def dies_during(outage: Path, experiment: Any, desk: Any, **more: Any) -> None:
    """The real loop, in processes that die while the file is there."""
    from raytune_ft.training.lane.loop import run_lane

    if outage.exists():
        os._exit(1)
    run_lane(experiment, desk, **more)


@pytest.fixture
def outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file; no lane starts while it is there."""
    start, file = trials.lanes, tmp_path / "outage"

    @contextmanager
    def lanes(experiment: Any, runner: Any, run: Any, count: int, run_lane: Any = None, **more: Any) -> Iterator[Any]:
        with start(experiment, runner, run, count, partial(dies_during, file), **more) as dispatcher:
            yield dispatcher

    monkeypatch.setattr(trials, "lanes", lanes)
    file.touch()
    return file


def test_lanes_whose_workers_raise_before_any_was_ready_are_given_up_at_once_and_their_trials_stay_open(
    cluster: None, toy_experiment: Callable[..., Path]
) -> None:
    experiment = api.load_experiment(toy_experiment(resources={"max_failures": 1, "outage_timeout_s": 60.0}))
    run = experiment.run_directory
    with start_lanes(experiment, Lane(), run, 1, raises) as dispatcher:
        ray.get(dispatcher.submit.remote(Start(TrialSpec.of("0000", {}, experiment, run)), "test", 0))
        while (why := ray.get(dispatcher.now.remote()).given_up) is None:
            time.sleep(0.1)
        event = ray.get(dispatcher.next_event.remote("0000", 0.1))
    assert why == "no lane can be started, 2 time(s) with the same error (ValueError: the base has no layers)"
    assert event is None and Outcome.read(run.trial("0000")) is None


def test_fault_35_a_sweep_ends_open_where_lanes_stay_away_and_goes_on_when_they_are_back(
    cluster: None, outage: Path, toy_experiment: Callable[..., Path]
) -> None:
    search = {
        "space": {"parameters": {"train.learning_rate": {"loguniform": [1e-3, 2e-3]}}},
        "scheduler": {"type": "none"},
        "trials": 3,
        "max_concurrent": 2,
    }
    train = {"per_device_train_batch_size": 8, "max_steps": 4, "dtype": "float32"}
    resources = {"outage_timeout_s": 1.0, "max_failures": 0}
    file = toy_experiment(
        name="outage", search=search, train=train, resources=resources, runner={"type": "lane", "lanes": 1}
    )
    experiment = api.load_experiment(file)
    run = experiment.run_directory
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        if "1 of 1 lane(s) is lost" in line:
            outage.unlink(missing_ok=True)

    with pytest.raises(LanesLost, match=r"no lane has been ready for .* 0 of 3 trials ended, the others stay open"):
        api.run_sweep(experiment)
    open_trials = {trial.state for trial in open_study(experiment, experiment.search, run).trials}
    assert open_trials >= {TrialState.RUNNING} and not any(state.is_finished() for state in open_trials)
    assert not list(run.trials.glob("*/outcome.json"))

    patient = api.load_experiment(file, ["resources.outage_timeout_s=300"])
    result = api.run_sweep(patient, resume=True, log=log)
    assert {row.outcome for row in result.board} == {"completed"} and len(result.board) == 3
    study = open_study(experiment, experiment.search, RunDirectory(run.root))
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    assert all(Outcome.read(run.trial(f"{number:04d}")) for number in range(3))
    assert any("1 of 1 lane(s) is lost" in line and line.endswith("trials wait") for line in lines), lines
