from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

EXPERIMENT = """\
name: movies
base_model: model
data: {train: train.jsonl}
search: {space: {parameters: {method.r: {choice: [4, 8]}}}}
"""
SERVE = "import sys, typer; from raytune_ft.cli.report import dashboard; typer.run(dashboard)"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory, its name with a space, with a study of two trials."""
    root = tmp_path / "my runs"
    root.mkdir()
    (root / "experiment.yaml").write_text(EXPERIMENT)
    study = optuna.create_study(study_name="movies", storage=f"sqlite:///{root / 'study.db'}")
    study.optimize(lambda trial: float(trial.suggest_categorical("method.r", [4, 8])), n_trials=2)
    return root


@pytest.fixture
def port(free_ports: Callable[[int], list[int]]) -> int:
    return free_ports(1)[0]


@pytest.fixture
def server(run: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SERVE, str(run), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"})
    yield process
    process.kill()
    process.wait()


def ask(url: str, process: subprocess.Popen[str]) -> bytes:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=50) as answer:
                content: bytes = answer.read()
                return content
        except OSError:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
    raise AssertionError(f"{url} never answered")


def test_the_dashboard_serves_the_runs_study_until_it_is_interrupted(server: subprocess.Popen[str], port: int) -> None:
    studies = json.loads(ask(f"http://127.0.0.1:{port}/api/studies", server))
    assert [study["study_name"] for study in studies["study_summaries"]] == ["movies"]
    assert b"<html" in ask(f"http://127.0.0.1:{port}/dashboard", server)
    server.send_signal(signal.SIGINT)
    assert f"dashboard at http://127.0.0.1:{port}/dashboard" in server.communicate(timeout=100)[1]
    assert server.returncode == 0


def test_a_study_in_a_journal_is_shown_too(run: Path, port: int) -> None:
    from raytune_ft.paths import RunDirectory
    from raytune_ft.search.study.storage import open_storage

    journal = run.parent / "all.journal"
    (run / "experiment.yaml").write_text(EXPERIMENT.replace("search: {", f"search: {{storage: '{journal}', "))
    optuna.create_study(study_name="in-a-journal", storage=open_storage(str(journal), RunDirectory(run)))
    command = [sys.executable, "-c", SERVE, str(run), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"})
    try:
        studies = json.loads(ask(f"http://127.0.0.1:{port}/api/studies", process))
        assert [study["study_name"] for study in studies["study_summaries"]] == ["in-a-journal"]
    finally:
        process.kill()
        process.wait()


def test_a_port_that_is_taken_is_said_in_one_line(run: Path) -> None:
    from raytune_ft.errors import InputError
    from raytune_ft.paths import RunDirectory
    from raytune_ft.reporting.dashboard import serve_dashboard

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"127\.0\.0\.1:{port}: can't listen there .*; choose another --port"):
            serve_dashboard(RunDirectory(run), "127.0.0.1", port, print)
