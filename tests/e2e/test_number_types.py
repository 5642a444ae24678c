"""A run that was begun in one number type goes on, is evaluated and promoted on a machine that is fast in another one.

With the two variables oneDNN and PyTorch multiply as on a CPU without AVX-512, where bfloat16 is emulated.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from raytune_ft.paths import read_json
from raytune_ft.registry.manifest import verify

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


def raytune_ft(*words: str | Path, where: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raytune_ft", *map(str, words)]
    done = subprocess.run(
        command, cwd=where, env=os.environ | variables, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def plan(experiment: Path, where: Path, **variables: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(raytune_ft("plan", experiment, "--json", where=where, **variables).stdout)
    return found


@pytest.fixture
def begun(toy_experiment, tmp_path: Path):
    """Begins a run in a type, one trial of two, and gives the file that leaves the type open, and the run."""

    def begin(dtype: str) -> tuple[Path, Path]:
        search = {
            "space": {"parameters": {"train.learning_rate": {"loguniform": [5e-3, 2e-2]}}},
            "scheduler": {"type": "none"},
            "trials": 2,
        }
        train = {"learning_rate": 1e-2, "per_device_train_batch_size": 8, "max_steps": 60}
        promotion = {"retention": None, "parity": {"rows": 4}}
        path = toy_experiment(search=search, train=train, promotion=promotion)
        raytune_ft("sweep", path, "--set", f"train.dtype={dtype}", "--set", "search.trials=1", where=tmp_path)
        return path, tmp_path / "runs" / "toy"

    return begin


def test_begun_in_bfloat16_and_finished_where_float32_is_fast(begun, tmp_path: Path) -> None:
    experiment, run = begun("bfloat16")
    assert plan(experiment, tmp_path, **AVX2)["dtype"] == "float32"  # what a new run would take there
    raytune_ft("sweep", experiment, "--resume", where=tmp_path, **AVX2)
    assert yaml.safe_load((run / "experiment.yaml").read_text())["train"]["dtype"] == "bfloat16"
    assert read_json(run / "winner.json")["dtype"] == "bfloat16"
    assert len(read_json(run / "leaderboard.json")["rows"]) == 2
    evaluated = raytune_ft("evaluate", run, where=tmp_path, **AVX2)
    assert (
        "computing in float32, as" in evaluated.stderr and "is not fast in bfloat16, the run's type" in evaluated.stderr
    )
    assert read_json(run / "evaluation.json")["dtype"] == "float32"
    promoted = raytune_ft("promote", run, "--force", where=tmp_path, **AVX2)
    assert "gate parity: passed: over 4 rows in float32" in promoted.stderr
    assert verify(tmp_path / "registry" / "toy" / "1").dtype == "bfloat16"


def test_begun_in_float32_it_stays_so_also_where_bfloat16_is_fast(begun, tmp_path: Path) -> None:
    experiment, run = begun("float32")
    raytune_ft("sweep", experiment, "--resume", where=tmp_path)
    assert read_json(run / "winner.json")["dtype"] == "float32"
    raytune_ft("evaluate", run, where=tmp_path)
    assert read_json(run / "evaluation.json")["dtype"] == "float32"
