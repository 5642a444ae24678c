"""What integration tests share: a private Ray, lanes on it, and a sweep by the real command that is killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

COMMAND = (sys.executable, "-m", "raytune_ft", "sweep")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One private Ray for a file's tests."""
    from raytune_ft.execution.cluster import ray_cluster

    with ray_cluster():
        yield


@pytest.fixture(scope="module")
def warm_lanes(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A file's sweeps, all of one shape, share the lanes that the first one starts: none loads the base anew."""
    from raytune_ft.paths import RunDirectory
    from raytune_ft.search.trials import trials

    start, started = trials.lanes, {}
    with contextlib.ExitStack() as until_the_end, pytest.MonkeyPatch.context() as patch:

        @contextlib.contextmanager
        def lanes(experiment: Any, runner: Any, run: Any, count: int, run_lane: Any = None, **_: Any) -> Iterator[Any]:
            shape = (experiment.base_model, experiment.method.type, str(experiment.resources), str(runner), count)
            if not started:
                run = RunDirectory(tmp_path_factory.mktemp("lanes"))
                started[shape] = until_the_end.enter_context(start(experiment, runner, run, count, run_lane))
            yield started[shape]

        patch.setattr(trials, "lanes", lanes)
        yield


@pytest.fixture(scope="module")
def lane_experiment(tiny_llama: Path) -> Any:
    """What lanes are started with; the trials on them bring their own data and settings."""
    from raytune_ft.config.experiment import Experiment

    return Experiment.model_validate(
        {
            "name": "toy",
            "base_model": str(tiny_llama),
            "data": {"train": "not-read", "max_length": 64},
            "train": {"dtype": "float32"},
        }
    )


@pytest.fixture
def tune_on() -> Callable[..., Any]:
    """`tune_on(dispatcher, lanes, experiment, listener)`: a sweep on lanes that are there already; run and study."""
    from raytune_ft.objectives.prepared import prepare
    from raytune_ft.paths import RunDirectory
    from raytune_ft.search.budget.accounts import Accounts
    from raytune_ft.search.earlier_studies.portfolio import enqueue_first
    from raytune_ft.search.session import Session
    from raytune_ft.search.study.study import open_study
    from raytune_ft.search.trials.trials import on_lanes
    from raytune_ft.search.tuning import tune_study

    def tune(dispatcher: Any, lanes: int, experiment: Any, listener: Any) -> tuple[Any, Any]:
        search, run = experiment.search, RunDirectory(Path(experiment.output_dir) / experiment.name)
        prepare(experiment, run.data, in_use=False)
        study = open_study(experiment, search, run)
        enqueue_first(study, experiment)
        session = Session(experiment, search, run, study, Accounts(experiment, search, run), listener, print)
        tune_study(session, on_lanes(experiment, run, dispatcher, lanes))
        return run, study

    return tune


class SweepCommand:
    """Starts `raytune-ft sweep`, kills it, and remembers what its Ray was."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []
        self._watched: list[psutil.Process] = []

    def start(self, experiment: Path, *options: str, command: Sequence[str] = COMMAND) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*command, str(experiment), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def wait_for(self, process: subprocess.Popen[str], *words: str) -> None:
        """Reads the command's log until a line has one of these."""
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if any(each in line for each in words):
                return
        raise AssertionError(f"never said {' or '.join(words)!r}: {''.join(seen)}")

    def watch(self, process: subprocess.Popen[str]) -> None:
        """What it has started until now has to end with it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._watched.extend(psutil.Process(process.pid).children(recursive=True))

    def kill(self, process: subprocess.Popen[str]) -> None:
        self.watch(process)
        process.kill()
        process.wait(timeout=300)

    def end(self) -> None:
        """Fails where a watched process outlives its driver, but for agents: they look for their Ray for a minute."""
        for process in self._started:
            if process.poll() is None:  # the test failed on its way
                self.kill(process)
        deadline = time.monotonic() + 150
        while (left := [each for each in self._watched if _stays(each)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in self._watched:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert not left, left


def _stays(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "Agent" not in process.name()
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def sweep_command() -> Iterator[SweepCommand]:
    command = SweepCommand()
    yield command
    command.end()
