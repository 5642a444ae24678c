"""A sweep that is stopped, killed, and gone on with, by the real command."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import psutil

COMMAND = [sys.executable, "-m", "raytune_ft", "sweep"]
TRIALS = 4


def start(experiment: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, str(experiment), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until_ended(process: subprocess.Popen[str], trials: int) -> None:
    """Reads the command's log until that many trials ended."""
    assert process.stderr is not None
    ended, seen = 0, []
    for line in process.stderr:
        seen.append(line)
        ended += "completed" in line or "pruned" in line
        if ended >= trials:
            return
    raise AssertionError(f"the sweep ended early: {''.join(seen)}")


def test_a_stopped_and_a_killed_sweep_end_with_exactly_the_asked_trials(
    toy_experiment: Callable[..., Path], tmp_path: Path
) -> None:
    """Fault 5, Ctrl-C once, and fault 4 after it."""
    experiment = toy_experiment(
        search={
            "space": {"parameters": {"train.learning_rate": {"loguniform": [1e-3, 1e-2]}}},
            "scheduler": {"type": "asha", "grace_period": 200, "reduction_factor": 2},
            "trials": TRIALS,
        },
        train={"per_device_train_batch_size": 8, "max_steps": 400, "bf16": False},
    )
    run = tmp_path / "runs" / "toy"

    stopped = start(experiment)
    wait_until_ended(stopped, 1)
    os.kill(stopped.pid, signal.SIGINT)
    _, log = stopped.communicate(timeout=90)
    assert stopped.returncode == 130, log
    assert f"raytune-ft sweep --resume {experiment}" in log
    first = (run / "trials/0000/outcome.json").read_bytes()

    killed = start(experiment, "--resume")
    wait_until_ended(killed, 1)
    time.sleep(0.5)  # into the next trial
    rays = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    killed.wait(timeout=30)
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{run / 'study.db'}")
    finished = {trial.number for trial in study.trials if trial.state.is_finished()}
    assert 0 < len(finished) < TRIALS

    resumed = start(experiment, "--resume", "--json")
    out, log = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, log
    board = json.loads(out)["rows"]
    assert sorted(row["trial"] for row in board) == [f"{number:04d}" for number in range(TRIALS)]
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{run / 'study.db'}")
    assert len(study.trials) == TRIALS
    assert all(trial.state.is_finished() for trial in study.trials)
    assert (run / "trials/0000/outcome.json").read_bytes() == first
    for process in rays:
        with contextlib.suppress(psutil.NoSuchProcess):
            assert "Agent" in process.name() or process.status() == psutil.STATUS_ZOMBIE, process
            process.kill()  # Ray's agents look for a control store that is gone for a minute
