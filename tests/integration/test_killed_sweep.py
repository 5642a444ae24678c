"""SIGKILL of the driver at chosen moments of one sweep, and Ctrl-C twice, by the real command (faults 4 and 5)."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import psutil
import pytest

TRIALS = 3
COMMAND = [sys.executable, "-m", "raytune_ft", "sweep"]
DIES_AT_THE_LEADERBOARD = """
import os, signal, sys
real = os.replace
def replace(source, target):
    if str(target).endswith("leaderboard.json"):
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
sys.argv[0] = "raytune-ft"
from raytune_ft.cli.app import main
main()
"""


def start(command: list[str], experiment: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, str(experiment), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Reads the command's log until a line has these words."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return
    raise AssertionError(f"never said {words!r}: {''.join(seen)}")


def kill(process: subprocess.Popen[str], left: list[psutil.Process]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        left.extend(psutil.Process(process.pid).children(recursive=True))
    process.kill()
    process.wait(timeout=60)


@pytest.fixture
def left() -> Iterator[list[psutil.Process]]:
    """Processes of killed drivers' Rays; they end with them, but for agents that look for theirs for a minute."""
    found: list[psutil.Process] = []
    yield found
    _, alive = psutil.wait_procs(found, timeout=30)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            assert "Agent" in process.name() or process.status() == psutil.STATUS_ZOMBIE, process
            process.kill()


@pytest.fixture
def experiment(toy_experiment: Callable[..., Path]) -> Path:
    search = {
        "space": {"parameters": {"train.learning_rate": {"loguniform": [1e-3, 1e-2]}}},
        "scheduler": {"type": "asha", "grace_period": 200, "reduction_factor": 2},
        "trials": TRIALS,
    }
    return toy_experiment(search=search, train={"per_device_train_batch_size": 8, "max_steps": 400, "bf16": False})


def test_fault_4_a_sweep_killed_at_every_kind_of_moment_ends_with_the_asked_trials(
    experiment: Path, tmp_path: Path, left: list[psutil.Process]
) -> None:
    run = tmp_path / "runs" / "toy"
    before_the_first_report = start(COMMAND, experiment)
    wait_for(before_the_first_report, "trial 0000 [1/3] started")
    kill(before_the_first_report, left)

    between_two_reports = start(COMMAND, experiment, "--resume")
    wait_for(between_two_reports, "trial 0000: step 200")
    time.sleep(0.2)  # into the next steps
    kill(between_two_reports, left)

    between_two_trials = start(COMMAND, experiment, "--resume")
    wait_for(between_two_trials, "trial 0000 completed")
    kill(between_two_trials, left)
    first = (run / "trials/0000/outcome.json").read_bytes()

    at_the_leaderboard = start([sys.executable, "-c", DIES_AT_THE_LEADERBOARD, "sweep"], experiment, "--resume")
    _, log = at_the_leaderboard.communicate(timeout=300)
    assert at_the_leaderboard.returncode == -signal.SIGKILL, log
    assert not (run / "leaderboard.json").exists() and list(run.glob(".leaderboard.json.*"))

    resumed = start(COMMAND, experiment, "--resume", "--json")
    out, log = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, log
    assert sorted(row["trial"] for row in json.loads(out)["rows"]) == [f"{number:04d}" for number in range(TRIALS)]
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{run / 'study.db'}")
    assert [trial.number for trial in study.trials] == list(range(TRIALS))
    assert {trial.state.name for trial in study.trials} <= {"COMPLETE", "PRUNED"}
    assert len({trial.params["train.learning_rate"] for trial in study.trials}) == TRIALS
    assert sorted(study.trials[0].intermediate_values) == [200, 400]
    assert (run / "trials/0000/outcome.json").read_bytes() == first

    extended = start(COMMAND, experiment, "--extend", "1", "--json")
    out, log = extended.communicate(timeout=300)
    assert extended.returncode == 0, log
    assert len(json.loads(out)["rows"]) == TRIALS + 1
    assert "[4/4] started" in log and "trials: 4" in (run / "experiment.yaml").read_text()
    assert (run / "trials/0000/outcome.json").read_bytes() == first


def test_fault_5_a_second_ctrl_c_stops_at_once_and_nothing_is_lost(
    experiment: Path, tmp_path: Path, left: list[psutil.Process]
) -> None:
    sweep = start(COMMAND, experiment)
    wait_for(sweep, "trial 0000 [1/3] started")
    left.extend(psutil.Process(sweep.pid).children(recursive=True))
    sweep.send_signal(signal.SIGINT)
    time.sleep(0.3)
    sweep.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, log = sweep.communicate(timeout=60)
    assert time.monotonic() - began < 20.0
    assert sweep.returncode == 130, log
    assert f"raytune-ft sweep --resume {experiment}" in log
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{tmp_path / 'runs/toy/study.db'}")
    assert [trial.number for trial in study.trials if trial.state.is_finished()] == []
