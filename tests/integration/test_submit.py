"""`raytune-ft submit` against a real head that asks for a token, with the real command."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Head:
    address: str
    token_path: Path
    environment: dict[str, str]


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A Ray head with 2 CPUs on loopback that answers only to its token."""
    home = tmp_path_factory.mktemp("home")
    token_path = home / ".ray" / "auth_token"
    token_path.parent.mkdir()
    token_path.write_text(secrets.token_hex(32))
    token_path.chmod(0o600)
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path),
    }
    gcs, dashboard, agent = _free_ports(3)
    command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
    command += [f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={agent}", "--object-store-memory=200000000"]
    with (home / "head.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(dashboard, process, home / "head.log")
        yield Head(f"http://127.0.0.1:{dashboard}", token_path, environment)
    finally:
        _end(psutil.Process(process.pid))


def _end(head: psutil.Process) -> None:
    """Ends this head alone, where `ray stop` would end every Ray of this user."""
    processes = [head, *head.children(recursive=True)]
    for process in reversed(processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(processes, timeout=10)[1]:
        process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        time.sleep(0.3)
    pytest.fail(f"the head did not answer: {log.read_text()}")


def _submit(head: Head, experiment: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raytune_ft", "submit", str(experiment), "--address", head.address]
    command += ["--working-dir", str(experiment.parent), *options]
    outside = {name: value for name, value in head.environment.items() if not name.startswith("RAY_AUTH")}
    return subprocess.run(command, env={**outside, **environment}, capture_output=True, text=True, timeout=240)


def test_a_sweep_runs_as_a_job_and_its_log_is_streamed(head: Head, toy_experiment: Any, tmp_path: Path) -> None:
    done = _submit(head, toy_experiment(), "--json", RAY_AUTH_TOKEN_PATH=str(head.token_path), RAY_AUTH_MODE="token")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "SUCCEEDED"
    winner = json.loads((tmp_path / "runs/toy/winner.json").read_text())
    assert winner["experiment"] == "toy"
    assert winner["trial"] in done.stderr, "the job's log was not streamed"
    assert head.token_path.read_text() not in done.stdout + done.stderr


def test_a_job_that_fails_ends_with_exit_code_1_and_its_status(head: Head, toy_experiment: Any) -> None:
    token = {"RAY_AUTH_TOKEN_PATH": str(head.token_path), "RAY_AUTH_MODE": "token"}
    done = _submit(head, toy_experiment(), "--python", "no-such-python", **token)
    assert done.returncode == 1
    assert "ended as FAILED" in done.stderr.splitlines()[-1]


def test_without_the_token_one_line_says_what_to_set(head: Head, toy_experiment: Any, tmp_path: Path) -> None:
    done = _submit(head, toy_experiment(), HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {head.address}: the cluster asks for a token (401); "
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token"
    ]


def test_a_wrong_token_is_refused_in_one_line(head: Head, toy_experiment: Any) -> None:
    done = _submit(head, toy_experiment(), RAY_AUTH_TOKEN="0" * 64, RAY_AUTH_MODE="token")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(f"error: {head.address}: the cluster refuses this token (403); set")
