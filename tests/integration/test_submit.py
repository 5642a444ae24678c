"""`raytune-ft submit` against a real head that asks for a token, with the real command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def _submit(head: Any, experiment: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raytune_ft", "submit", str(experiment), "--address", head.address]
    command += ["--working-dir", str(experiment.parent), *options]
    outside = {name: value for name, value in head.environment.items() if not name.startswith("RAY_AUTH")}
    return subprocess.run(command, env={**outside, **environment}, capture_output=True, text=True, timeout=900)


def test_a_sweep_runs_as_a_job_and_its_log_is_streamed(head: Any, toy_experiment: Any, tmp_path: Path) -> None:
    done = _submit(head, toy_experiment(), "--json", RAY_AUTH_TOKEN_PATH=str(head.token_path), RAY_AUTH_MODE="token")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "SUCCEEDED"
    winner = json.loads((tmp_path / "runs/toy/winner.json").read_text())
    assert winner["experiment"] == "toy"
    assert f"sends 1 file of {tmp_path}, " in done.stderr
    assert winner["trial"] in done.stderr, "the job's log was not streamed"
    assert head.token_path.read_text() not in done.stdout + done.stderr


def test_a_job_that_fails_ends_with_exit_code_1_and_its_status(head: Any, toy_experiment: Any) -> None:
    token = {"RAY_AUTH_TOKEN_PATH": str(head.token_path), "RAY_AUTH_MODE": "token"}
    done = _submit(head, toy_experiment(), "--python", "no-such-python", **token)
    assert done.returncode == 1
    assert "ended as FAILED" in done.stderr.splitlines()[-1]


def test_without_the_token_one_line_says_what_to_set(head: Any, toy_experiment: Any, tmp_path: Path) -> None:
    done = _submit(head, toy_experiment(), HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {head.address}: the cluster asks for a token (401); "
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token"
    ]


def test_a_wrong_token_is_refused_in_one_line(head: Any, toy_experiment: Any) -> None:
    done = _submit(head, toy_experiment(), RAY_AUTH_TOKEN="0" * 64, RAY_AUTH_MODE="token")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(f"error: {head.address}: the cluster refuses this token (403); set")
