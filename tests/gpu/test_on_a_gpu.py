"""On a real GPU: its number type, lanes and isolated trials in it, loss scaling, evaluation, and the gate parity."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from raytune_ft.config.number_type import NumberType
from raytune_ft.hardware.device import fast_types
from raytune_ft.hardware.here import device_here, gpus_here
from raytune_ft.paths import read_json

ONE_GPU = {"workers": 1, "cpus_per_worker": 1, "gpus_per_worker": 1}


def raytune_ft(*words: str | Path, where: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raytune_ft", *map(str, words)]
    done = subprocess.run(command, cwd=where, env=os.environ, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return done


def experiment(toy_experiment: Any, dtype: str, runner: str, **changes: Any) -> Path:
    train = {"learning_rate": 1e-2, "per_device_train_batch_size": 8, "max_steps": 40, "eval_steps": 20, "dtype": dtype}
    promotion = {"retention": None, "parity": {"rows": 4, "gpu_memory_utilization": 0.3}}
    values = {"train": train, "resources": ONE_GPU, "runner": {"type": runner}, "promotion": promotion}
    path: Path = toy_experiment(**values, **changes)
    return path


def test_the_gpu_is_found_and_is_fast_in_a_type_of_16_bits_where_it_has_tensor_cores() -> None:
    (gpu, *_) = gpus_here()
    assert device_here() == gpu and gpu.capability is not None
    if gpu.capability >= (7, 0):
        assert fast_types(gpu)[0] in ("bfloat16", "float16")


@pytest.mark.parametrize("dtype", ["auto", "float16", "float32"])
def test_a_lane_searches_evaluates_and_learns_on_the_gpu(toy_experiment, tmp_path: Path, dtype: NumberType) -> None:
    path = experiment(toy_experiment, dtype, "lane")
    raytune_ft("sweep", path, where=tmp_path)
    run = tmp_path / "runs" / "toy"
    decided = yaml.safe_load((run / "experiment.yaml").read_text())["train"]["dtype"]
    assert decided == (fast_types(gpus_here()[0])[0] if dtype == "auto" else dtype)
    rows = read_json(run / "leaderboard.json")["rows"]
    assert {row["outcome"] for row in rows} <= {"completed", "pruned"} and rows[0]["value"] < 0.65
    raytune_ft("evaluate", run, where=tmp_path)
    evaluation = read_json(run / "evaluation.json")
    assert evaluation["difference"]["loss"]["high"] < 0


def test_an_isolated_trial_trains_in_float16_with_loss_scaling(toy_experiment, tmp_path: Path) -> None:
    path = experiment(toy_experiment, "float16", "isolated", search=None)
    raytune_ft("train", path, where=tmp_path)
    outcome = read_json(tmp_path / "runs" / "toy" / "trials" / "0000" / "outcome.json")
    assert outcome["outcome"] == "completed" and outcome["value"] < 0.65


def test_vllm_agrees_with_transformers_in_the_type_that_serves(toy_experiment, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    path = experiment(toy_experiment, "auto", "lane")
    raytune_ft("sweep", path, where=tmp_path)
    run = tmp_path / "runs" / "toy"
    raytune_ft("evaluate", run, where=tmp_path)
    promoted = json.loads(raytune_ft("promote", run, "--force", "--json", where=tmp_path).stdout)
    parity = promoted["gates"]["parity"]
    assert parity["passed"] and parity["dtype"] == read_json(run / "winner.json")["dtype"]


def test_preferences_are_learned_on_a_base_in_4_bits_on_the_gpu(
    toy_experiment, toy_preferences, tmp_path: Path
) -> None:
    data = toy_preferences()
    others = {"data": data, "objective": {"type": "dpo"}, "method": {"type": "qlora", "r": 8}, "evaluate": None}
    path = experiment(toy_experiment, "auto", "isolated", search=None, **others)
    raytune_ft("train", path, where=tmp_path)
    raytune_ft("evaluate", tmp_path / "runs" / "toy", where=tmp_path)
    evaluation = read_json(tmp_path / "runs" / "toy" / "evaluation.json")
    assert evaluation["difference"]["preference_accuracy"]["low"] > 0
    assert evaluation["on_trained_base"]["loss"] > 0
