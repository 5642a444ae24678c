"""SIGKILL of the driver, and Ctrl-C, at chosen moments of one sweep, by the real command (faults 4 and 5)."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

TRIALS = 3
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


@pytest.fixture
def experiment(toy_experiment: Callable[..., Path]) -> Path:
    search = {
        "space": {"parameters": {"train.learning_rate": {"loguniform": [1e-3, 1e-2]}}},
        "scheduler": {"type": "asha", "grace_period": 200, "reduction_factor": 2},
        "trials": TRIALS,
    }
    return toy_experiment(search=search, train={"per_device_train_batch_size": 8, "max_steps": 400, "dtype": "float32"})


def trials_of(run: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="toy", storage=f"sqlite:///{run / 'study.db'}").trials


def test_fault_4_a_sweep_stopped_and_killed_at_every_kind_of_moment_ends_with_the_asked_trials(
    sweep_command: Any, experiment: Path, tmp_path: Path
) -> None:
    """And fault 5: one of the moments is a single Ctrl-C."""
    run = tmp_path / "runs" / "toy"
    before_the_first_report = sweep_command.start(experiment)
    sweep_command.wait_for(before_the_first_report, "trial 0000 [1/3] started")
    sweep_command.kill(before_the_first_report)

    between_two_reports = sweep_command.start(experiment, "--resume")
    sweep_command.wait_for(between_two_reports, "trial 0000: step 200")
    time.sleep(0.2)  # into the next steps
    sweep_command.kill(between_two_reports)
    assert not [trial for trial in trials_of(run) if trial.state.is_finished()]

    stopped = sweep_command.start(experiment, "--resume")
    sweep_command.wait_for(stopped, "trial 0000 completed")
    stopped.send_signal(signal.SIGINT)
    _, log = stopped.communicate(timeout=450)
    assert stopped.returncode == 130, log
    assert f"raytune-ft sweep --resume {experiment}" in log
    first, board = (run / "trials/0000/outcome.json").read_bytes(), (run / "leaderboard.json").read_bytes()

    between_two_trials = sweep_command.start(experiment, "--resume")
    sweep_command.wait_for(between_two_trials, "trial 0001 completed", "trial 0001 pruned")
    sweep_command.kill(between_two_trials)
    assert 0 < sum(trial.state.is_finished() for trial in trials_of(run)) < TRIALS

    dies = [sys.executable, "-c", DIES_AT_THE_LEADERBOARD, "sweep"]
    at_the_leaderboard = sweep_command.start(experiment, "--resume", command=dies)
    _, log = at_the_leaderboard.communicate(timeout=300)
    assert at_the_leaderboard.returncode == -signal.SIGKILL, log
    assert (run / "leaderboard.json").read_bytes() == board and list(run.glob(".leaderboard.json.*"))

    resumed = sweep_command.start(experiment, "--resume", "--json")
    out, log = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, log
    assert sorted(row["trial"] for row in json.loads(out)["rows"]) == [f"{number:04d}" for number in range(TRIALS)]
    trials = trials_of(run)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert len({trial.params["train.learning_rate"] for trial in trials}) == TRIALS
    assert sorted(trials[0].intermediate_values) == [200, 400]
    assert (run / "trials/0000/outcome.json").read_bytes() == first

    extended = sweep_command.start(experiment, "--extend", "1", "--json")
    out, log = extended.communicate(timeout=300)
    assert extended.returncode == 0, log
    assert len(json.loads(out)["rows"]) == TRIALS + 1
    assert "[4/4] started" in log and "trials: 4" in (run / "experiment.yaml").read_text()
    assert (run / "trials/0000/outcome.json").read_bytes() == first


def test_fault_5_a_second_ctrl_c_stops_at_once_and_nothing_is_lost(
    sweep_command: Any, experiment: Path, tmp_path: Path
) -> None:
    sweep = sweep_command.start(experiment)
    sweep_command.wait_for(sweep, "trial 0000 [1/3] started")
    sweep_command.watch(sweep)
    sweep.send_signal(signal.SIGINT)
    time.sleep(0.3)
    sweep.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, log = sweep.communicate(timeout=300)
    assert time.monotonic() - began < 100.0  # its trial would go on for many minutes
    assert sweep.returncode == 130, log
    assert f"raytune-ft sweep --resume {experiment}" in log
    trials = trials_of(tmp_path / "runs" / "toy")
    assert [trial.number for trial in trials if trial.state.is_finished()] == []
