"""A sweep on lanes with every change to Ray switched off (fault 51): slower to start, and the same search."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from raytune_ft.private_names import PATCHES


def commands_below(pid: int) -> list[str]:
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(process.cmdline()))
    return found


def test_a_sweep_without_any_change_to_ray_ends_with_its_trials(
    sweep_command: Any, toy_experiment: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATCHES, "0")
    search = {
        "space": {"parameters": {"train.learning_rate": {"loguniform": [1e-3, 1e-2]}}},
        "scheduler": {"type": "asha", "grace_period": 2, "reduction_factor": 2},
        "trials": 3,
    }
    process = sweep_command.start(toy_experiment(search=search, runner={"type": "lane", "lanes": 1}), "--json")
    sweep_command.wait_for(process, "trial 0000: step 2", "trial 0000 pruned", "trial 0000 completed")
    commands = "\n".join(commands_below(process.pid))
    sweep_command.watch(process)
    assert "ray::TrainController" in commands and "monitor.py" in commands  # which are left out otherwise
    assert "forked.server" not in commands
    out, log = process.communicate(timeout=600)
    assert process.returncode == 0, log
    trials = {name: json.loads((tmp_path / f"runs/toy/trials/000{name}/outcome.json").read_text()) for name in range(3)}
    assert {each["outcome"] for each in trials.values()} <= {"completed", "pruned"}
    assert json.loads(out)["winner"] in {"0000", "0001", "0002"}
