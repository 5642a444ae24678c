"""What a worker is told: its frozen spec, and DeepSpeed's settings."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.paths import RunDirectory
from raytune_ft.training.isolated.deepspeed import deepspeed_settings
from raytune_ft.training.spec import TrialSpec


def experiment(**changes: object) -> Experiment:
    return Experiment.model_validate({"name": "e", "base_model": "b", "data": {"train": "t"}, **changes})


def test_a_base_on_disk_gets_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models/base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    given = experiment(base_model="models/base")
    spec = TrialSpec.of("0003", {"train.learning_rate": 1e-3}, given, RunDirectory(tmp_path / "run"))
    assert spec.experiment.base_model == str((tmp_path / "models/base").resolve())
    assert given.base_model == "models/base"
    assert spec.data == tmp_path / "run/data" and spec.directory.root == tmp_path / "run/trials/0003"


def test_a_hub_id_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = experiment(base_model="org/model")
    assert TrialSpec.of("0000", {}, given, RunDirectory(tmp_path)).experiment == given


def test_a_spec_goes_to_a_worker_whole_and_leaves_its_configuration(tmp_path: Path) -> None:
    spec = TrialSpec.of("0003", {"method.r": 4}, experiment(), RunDirectory(tmp_path))
    assert pickle.loads(pickle.dumps(spec)) == spec
    spec.write()
    written = json.loads((tmp_path / "trials/0003/config.json").read_text())
    assert (written["trial"], written["parameters"]) == ("0003", {"method.r": 4})
    assert written["experiment"]["train"]["max_steps"] == 100


def test_no_password_reaches_a_trials_files(tmp_path: Path) -> None:
    """Fault 32."""
    search = {"space": {"parameters": {"method.r": {"choice": [8]}}}, "storage": "postgresql://u:c4n4ry@host/db"}
    TrialSpec.of("0003", {}, experiment(search=search), RunDirectory(tmp_path)).write()
    assert "c4n4ry" not in (tmp_path / "trials/0003/config.json").read_text()


def test_plain_data_parallel_training_has_no_deepspeed_settings() -> None:
    assert deepspeed_settings(experiment()) is None


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_stage_and_what_the_trainer_fills_in_reach_deepspeed(stage: int) -> None:
    settings = deepspeed_settings(experiment(resources={"strategy": {"type": "deepspeed", "zero_stage": stage}}))
    assert settings is not None
    zero = settings["zero_optimization"]
    assert zero["stage"] == stage and "offload_optimizer" not in zero
    assert zero.get("stage3_gather_16bit_weights_on_model_save", False) == (stage == 3)
    assert settings["train_micro_batch_size_per_gpu"] == settings["gradient_accumulation_steps"] == "auto"
    assert settings["bf16"] == {"enabled": "auto"}


@pytest.mark.parametrize("gpus", [0, 1])
def test_an_offloaded_optimizer_is_pinned_only_beside_a_gpu(gpus: int) -> None:
    strategy = {"type": "deepspeed", "offload_optimizer": True}
    settings = deepspeed_settings(experiment(resources={"gpus_per_worker": gpus, "strategy": strategy}))
    assert settings is not None
    assert settings["zero_optimization"]["offload_optimizer"] == {"device": "cpu", "pin_memory": gpus == 1}
