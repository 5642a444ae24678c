from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.tracking import tune_callbacks

SECRET = "canary-0123456789abcdef"


def experiment(**tracking: Any) -> Experiment:
    values = {"name": "movies", "base_model": "model", "data": {"train": "train.jsonl"}, "tracking": tracking}
    return Experiment.model_validate(values)


class FakeTrial:
    """As much of Ray's Trial as a logger reads."""

    def __init__(self, config: dict[str, Any], local_path: Path) -> None:
        self.config = self.evaluated_params = config
        self.trial_id, self.local_path, self.experiment_dir_name = "0001", str(local_path), "tune"

    def __str__(self) -> str:
        return self.trial_id


def run_trial(callback: Any, trial: FakeTrial) -> None:
    callback.setup()
    callback.on_trial_start(iteration=0, trials=[trial], trial=trial)
    result = {"eval_loss": 0.5, "training_iteration": 1, "config": trial.config}
    callback.on_trial_result(iteration=1, trials=[trial], trial=trial, result=result)
    callback.on_trial_complete(iteration=1, trials=[trial], trial=trial)
    callback.on_experiment_end(trials=[trial])


def test_only_the_trackers_that_are_asked_for_are_made(tmp_path: Path) -> None:
    assert tune_callbacks(experiment(tensorboard=False), tmp_path) == []
    assert tune_callbacks(experiment(tensorboard=False, wandb={"mode": "disabled"}), tmp_path) == []
    assert len(tune_callbacks(experiment(wandb={"mode": "offline"}), tmp_path)) == 2


def test_tune_recognises_the_tensorboard_callback_and_adds_no_second_one(tmp_path: Path) -> None:
    from ray.tune.logger import TBXLoggerCallback

    (callback,) = tune_callbacks(experiment(), tmp_path)
    assert isinstance(callback, TBXLoggerCallback)


def test_event_files_are_in_the_run_directory_from_the_first_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (callback,) = tune_callbacks(experiment(), tmp_path / "run")
    run_trial(callback, FakeTrial({"train.learning_rate": 0.1}, tmp_path / "staging"))
    (events,) = (tmp_path / "run/tensorboard/0001").iterdir()
    assert b"eval_loss" in events.read_bytes()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_tracker_that_breaks_is_switched_off_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (callback,) = tune_callbacks(experiment(), tmp_path)
    (tmp_path / "tensorboard").write_text("in the way of the directory")
    with caplog.at_level(logging.WARNING):
        run_trial(callback, FakeTrial({}, tmp_path))
        run_trial(callback, FakeTrial({}, tmp_path))
    (record,) = caplog.records
    assert record.getMessage().startswith("TensorBoard is switched off, the search goes on: ")


def test_wandb_without_a_key_is_switched_off_and_offline_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for variable in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("wandb.ensure_configured", lambda: None)
    monkeypatch.setattr("wandb.api", SimpleNamespace(api_key=None), raising=False)
    (online,) = tune_callbacks(experiment(tensorboard=False, wandb={"mode": "online"}), tmp_path / "run")
    online.setup()
    assert online.tracker_failed and "W&B is switched off" in caplog.text
    offline = offline_wandb(tmp_path, monkeypatch)
    offline.setup()
    assert not hasattr(offline, "tracker_failed")


def offline_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for place in ("ray.air.util.node", "ray.air.integrations.wandb"):  # asking for this node would start Ray
        monkeypatch.setattr(f"{place}._force_on_current_node", dict)
    (callback,) = tune_callbacks(experiment(tensorboard=False, wandb={"mode": "offline"}), tmp_path / "run")
    return callback


def test_wandb_is_told_no_secret_and_keeps_its_files_in_the_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 32."""
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    sent: list[Any] = []
    actor_options: list[dict[str, Any]] = []

    class FakeQueue:
        def __init__(self, **options: Any) -> None: ...

        def put(self, item: Any) -> None:
            sent.append(item)

    class FakeActor:
        def __init__(self, **settings: Any) -> None:
            sent.append(settings)
            self.run = SimpleNamespace(remote=lambda: "future")

    def remote(**options: Any) -> Any:
        actor_options.append(options)
        return lambda kind: SimpleNamespace(remote=FakeActor)

    monkeypatch.setattr("ray.remote", remote)
    monkeypatch.setattr("ray.wait", lambda futures, **_: (futures, []))
    monkeypatch.setattr("ray.kill", lambda actor: None)
    monkeypatch.setattr("ray.air.integrations.wandb.Queue", FakeQueue)
    callback = offline_wandb(tmp_path, monkeypatch)
    run_trial(callback, FakeTrial({"train.learning_rate": 0.1, "hub_token": SECRET}, tmp_path / "staging"))
    assert not hasattr(callback, "tracker_failed")
    assert sent[0]["config"] == {"train.learning_rate": 0.1, "hub_token": "***"}
    assert sent[0]["dir"] == str(tmp_path / "run") and sent[0]["group"] == "movies" and sent[0]["mode"] == "offline"
    assert len(sent) == 3 and SECRET not in repr(sent) and SECRET not in repr(actor_options)
