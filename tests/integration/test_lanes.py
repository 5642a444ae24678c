"""Lanes under a real Ray: what they survive, and that nothing of them stays behind."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import ray
from ray.tune.schedulers import FIFOScheduler

from raytune_ft import api
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Lane
from raytune_ft.events.kinds import Ended, Event, Reported, Started
from raytune_ft.execution.cluster import ray_cluster
from raytune_ft.execution.lanes.entries import Message, TrialEnded, TrialReport
from raytune_ft.execution.lanes.lanes import IMPORTS, lanes
from raytune_ft.metrics.report import value_in
from raytune_ft.objectives.prepared import prepare
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.search import tuning
from raytune_ft.training.lane.orders import Start
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.spec import TrialSpec

WORKER, PROXY = "ray::RayTrainWorker", "ray::ResourceTrainable"
LEARNING_RATE = {"train.learning_rate": {"loguniform": [1e-3, 2e-3]}}
LONG = 200  # steps, of a few milliseconds each

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import a test's file


class Recorder:
    """Remembers which steps were reported and how trials ended, and calls `then` once at a report."""

    def __init__(self, then: Callable[[], None] | None = None, at: tuple[str, int] = ("", 0)) -> None:
        self.steps: dict[str, list[int]] = {}
        self.ends: dict[str, str] = {}
        self._then, self._at = then, at

    def __call__(self, event: Event) -> None:
        match event:
            case Started(trial):
                self.steps.setdefault(trial, [])
            case Reported(trial, report):
                self.steps[trial].append(report["step"])
                if self._then and (trial, report["step"]) == self._at:
                    threading.Timer(0.2, self._then).start()  # into the next steps
            case Ended(trial, outcome):
                self.ends[trial] = str(outcome.kind)


class PauseAtEachRung(FIFOScheduler):
    """Pauses every trial at its first report."""

    def __init__(self) -> None:
        super().__init__()
        self.paused: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.trial_id in self.paused:
            return str(self.CONTINUE)
        self.paused.add(trial.trial_id)
        return str(self.PAUSE)


def processes(title: str) -> list[psutil.Process]:
    """Of this test's own Ray."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(title):
                found.append(process)
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """As sweeps on lanes have it: its workers are copies."""
    with ray_cluster(state_api=False, forked=IMPORTS):
        yield


@pytest.fixture(scope="module")
def dispatcher(cluster: None, lane_experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Of two warm lanes, which the tests share as trials do."""
    run = RunDirectory(tmp_path_factory.mktemp("lanes"))
    with lanes(lane_experiment, Lane(packed=1), run, 2) as dispatcher:
        yield dispatcher
    left = processes(WORKER)
    _, alive = psutil.wait_procs(left, timeout=300)
    assert not alive
    everything = ray.cluster_resources()["CPU"]
    for _ in range(100):
        if ray.available_resources().get("CPU") == everything:
            return
        time.sleep(0.1)
    raise AssertionError(f"of {everything:g} CPUs only {ray.available_resources()} are free")


@pytest.fixture
def make(toy_experiment: Callable[..., Path]) -> Callable[..., Experiment]:
    def write(name: str, max_steps: int, trials: int = 1, max_concurrent: int = 1, **train: Any) -> Experiment:
        search = {
            "space": {"parameters": LEARNING_RATE},
            "scheduler": {"type": "none"},
            "trials": trials,
            "max_concurrent": max_concurrent,
        }
        train |= {"per_device_train_batch_size": 8, "max_steps": max_steps, "dtype": "float32"}
        return api.load_experiment(toy_experiment(name=name, search=search, train=train))

    return write


@pytest.fixture
def search_on(dispatcher: Any, tune_on: Callable[..., Any]) -> Callable[[Experiment, Recorder], RunDirectory]:
    """A sweep on the two lanes, whose trials all complete."""

    def search(experiment: Experiment, watcher: Recorder) -> RunDirectory:
        run, study = tune_on(dispatcher, 2, experiment, watcher)
        assert {trial.state for trial in study.trials} == {optuna.trial.TrialState.COMPLETE}
        assert experiment.search is not None and len(study.trials) == experiment.search.trials
        return run

    return search


def curves(run: RunDirectory) -> list[list[tuple[int, float]]]:
    return [
        [(report["step"], value_in(report, "eval_loss")) for report in read_metrics(trial / "metrics.jsonl")]
        for trial in sorted(run.trials.iterdir())
    ]


def test_their_ray_starts_what_they_need_and_no_more(dispatcher: Any) -> None:
    needless = ("dashboard/dashboard.py", "log_monitor.py", "monitor.py", "ray::IDLE")
    running = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
    assert any("gcs_server" in command for command in running)  # it is this Ray that is looked at
    assert not [command for command in running for name in needless if name in command]


def test_a_killed_worker_and_a_killed_proxy_cost_no_trial_and_no_step(search_on, make) -> None:
    """Fault 1."""
    before: list[psutil.Process] = []
    parents: list[str] = []

    def kill_one_worker() -> None:
        before.extend(processes(WORKER))
        parents.extend(" ".join(psutil.Process(each.ppid()).cmdline()) for each in before)
        before[0].kill()

    watcher = Recorder(kill_one_worker, at=("0001", 50))
    experiment = make("killed-worker", LONG, trials=3, max_concurrent=2, eval_steps=50)
    run = search_on(experiment, watcher)
    assert watcher.ends == {f"{n:04d}": "completed" for n in range(3)}
    assert set(map(tuple, watcher.steps.values())) == {(50, 100, 150, 200)}
    assert all([step for step, _ in curve] == [50, 100, 150, 200] for curve in curves(run))
    assert len(before) == 2 and before[1].is_running()  # the other lane never noticed
    assert all("raytune_ft.execution.local_ray.forked.server" in parent for parent in parents), parents
    unharmed = search_on(make("unharmed", LONG, trials=3, max_concurrent=2, eval_steps=50), Recorder())
    for one, other in zip(curves(run), curves(unharmed), strict=True):
        assert [loss for _, loss in one] == pytest.approx([loss for _, loss in other], rel=1e-6)

    watcher = Recorder(lambda: processes(PROXY)[0].kill(), at=("0000", 50))
    run = search_on(make("killed-proxy", LONG, trials=2, eval_steps=50), watcher)
    assert watcher.ends == {"0000": "completed", "0001": "completed"}
    assert all([step for step, _ in curve] == [50, 100, 150, 200] for curve in curves(run))


def test_trials_that_are_paused_and_share_two_lanes_train_as_if_they_had_not_been(
    search_on, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = search_on(make("straight", 12, trials=4, eval_steps=6), Recorder())
    watcher, scheduler = Recorder(), PauseAtEachRung()
    monkeypatch.setattr(tuning, "make_scheduler", lambda *_: scheduler)
    experiment = make("paused", 12, trials=4, max_concurrent=4, eval_steps=6)
    paused = search_on(experiment, watcher)
    assert len(scheduler.paused) == 4
    assert set(map(tuple, watcher.steps.values())) == {(6, 12)}
    for one, other in zip(curves(straight), curves(paused), strict=True):
        assert [step for step, _ in one] == [6, 12]
        assert [loss for _, loss in one] == pytest.approx([loss for _, loss in other], rel=1e-6)


def test_a_trial_that_is_stopped_while_it_runs_makes_room_at_once_on_the_same_worker(dispatcher: Any, make) -> None:
    """Fault 6."""
    experiment = make("stopped", 100_000, eval_steps=10)
    run = RunDirectory(Path(experiment.output_dir) / "stopped")
    prepare(experiment, run.data, in_use=False)

    def submit(name: str, of: Experiment) -> None:
        ray.get(dispatcher.submit.remote(Start(TrialSpec.of(name, {}, of, run)), "test", 0))

    def hear(name: str) -> Message:
        event: Message | None = ray.get(dispatcher.next_event.remote(name, 60.0))
        assert event is not None
        return event

    workers = {process.pid for process in processes(WORKER)}
    for name in ("0000", "0001"):  # one for each lane
        submit(name, experiment)
        assert isinstance(hear(name), TrialReport)
        ray.get(dispatcher.go_on.remote(name))
    short = make("stopped", 5)
    submit("0002", short)
    time.sleep(0.5)
    assert not run.trial("0002").metrics.exists()  # there was no room
    stopped_s = time.monotonic()
    ray.get(dispatcher.drop.remote("0000"))
    assert isinstance(hear("0002"), TrialReport)
    assert time.monotonic() - stopped_s < 20.0  # nobody waited for a lane that is silent
    ray.get(dispatcher.go_on.remote("0002"))
    ended = hear("0002")
    assert isinstance(ended, TrialEnded) and ended.outcome.kind is OutcomeKind.completed
    for name in ("0001", "0002"):
        ray.get(dispatcher.drop.remote(name))
    assert {process.pid for process in processes(WORKER)} == workers
    assert Outcome.read(run.trial("0000")) is None  # whoever stopped it says why
    assert read_json(run.trial("0000").root / "timing.json")["ended"]
