from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.events.kinds import Closed, Ended, Listener, Reported, Started
from raytune_ft.tracking import trackers, weights_and_biases
from raytune_ft.tracking.wandb_writer import WandbWriter
from raytune_ft.training.outcome import Outcome, OutcomeKind

SECRET = "canary-0123456789abcdef"


def experiment(**tracking: Any) -> Experiment:
    values = {"name": "movies", "base_model": "model", "data": {"train": "train.jsonl"}, "tracking": tracking}
    return Experiment.model_validate(values)


def run_trial(tracker: Listener, parameters: dict[str, Any], trial: str = "0001") -> None:
    for event in (
        Started(trial, parameters),
        Reported(trial, {"step": 1, "eval_loss": 0.5, "checkpoint": "step-000001"}),
        Ended(trial, Outcome(OutcomeKind.completed, "ran all 1 steps", 1, 0.5)),
        Closed("all trials have ended"),
    ):
        tracker(event)


def test_only_the_trackers_that_are_asked_for_are_made(tmp_path: Path) -> None:
    assert trackers(experiment(tensorboard=False), tmp_path) == []
    assert trackers(experiment(tensorboard=False, wandb={"mode": "disabled"}), tmp_path) == []
    assert len(trackers(experiment(wandb={"mode": "offline"}), tmp_path)) == 2


def test_event_files_are_in_the_run_directory_from_the_first_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tracker,) = trackers(experiment(), tmp_path / "run")
    run_trial(tracker, {"train.learning_rate": 0.1})
    (events,) = (tmp_path / "run/tensorboard/0001").iterdir()
    assert b"eval_loss" in events.read_bytes() and b"train.learning_rate" in events.read_bytes()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_tracker_that_breaks_is_switched_off_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tracker,) = trackers(experiment(), tmp_path)
    (tmp_path / "tensorboard").write_text("in the way of the directory")
    with caplog.at_level(logging.WARNING):
        run_trial(tracker, {})
        run_trial(tracker, {})
    (record,) = caplog.records
    assert record.getMessage().startswith("TensorBoard is switched off, the search goes on: ")


class HereAtOnce:
    """Stands in for an actor: what it is told is done here, and its answers are the references."""

    def __init__(self, told: list[tuple[Any, ...]], actor: Any) -> None:
        self._told, self._actor = told, actor

    def __getattr__(self, name: str) -> Any:
        def remote(*args: Any) -> Any:
            self._told.append((name, *args))
            return self._answer(name, *args)

        return SimpleNamespace(remote=remote)

    def _answer(self, name: str, *args: Any) -> Any:
        try:
            return getattr(self._actor, name)(*args)
        except Exception as error:  # it fails where the answer is looked at
            return error


def answers(references: list[Any]) -> list[Any]:
    for reference in references:
        if isinstance(reference, Exception):
            raise reference
    return references


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the process of W&B's records is told: its options and settings first, then every call."""
    told: list[tuple[Any, ...]] = []

    def remote(kind: Callable[..., Any]) -> Any:
        def options(**options: Any) -> Any:
            told.append(("options", options))
            return SimpleNamespace(remote=start)

        def start(*args: Any, **settings: Any) -> Any:
            told.append(("settings", *args, settings))
            return HereAtOnce(told, kind(*args, **settings))

        return SimpleNamespace(options=options)

    monkeypatch.setattr("ray.remote", remote)
    monkeypatch.setattr("ray.wait", lambda references, **_: (references, []))
    monkeypatch.setattr("ray.get", answers)
    monkeypatch.setattr("ray.kill", lambda actor: told.append(("killed",)))
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "a" * 56))
    for variable in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    return told


def records_in(file: Path) -> Iterator[bytes]:
    """LevelDB's log format, in blocks of 32 KiB after a header of 7 bytes; a record here lies in one block."""
    data, at = file.read_bytes(), 7
    assert data[:4] == b":W&B" and len(data) < 1 << 15
    while at < len(data):
        length, kind = struct.unpack_from("<HB", data, at + 4)
        assert kind == 1
        yield data[at + 7 : at + 7 + length]
        at += 7 + length


def recorded(run_dir: Path, trial: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The configuration and the history of a trial, out of what an offline run left."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = run_dir.glob(f"wandb/offline-run-*-{trial}/run-{trial}.wandb")
    config: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    for data in records_in(file):
        record = Record.FromString(data)
        for update in [*record.run.config.update, *record.config.update]:
            config[update.key or "/".join(update.nested_key)] = json.loads(update.value_json)
        if record.HasField("history"):
            history.append(
                {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            )
    return config, history


def own(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What this project logged, and not W&B."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("raytune_ft")]


def test_online_without_a_key_is_switched_off_and_offline_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(weights_and_biases, "_logged_in", lambda: False)
    (online,) = trackers(experiment(tensorboard=False, wandb={"mode": "online"}), tmp_path / "run")
    online(Started("0001", {}))
    assert online.failed and "W&B is switched off" in caplog.text and "set WANDB_API_KEY" in caplog.text
    (offline,) = trackers(experiment(tensorboard=False, wandb={"mode": "offline"}), tmp_path / "run")
    offline(Closed("nothing was trained"))
    assert not offline.failed


def test_one_process_is_told_no_secret_and_keeps_its_files_in_the_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[tuple[Any, ...]]
) -> None:
    """Fault 32."""
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    (tracker,) = trackers(experiment(tensorboard=False, wandb={"mode": "offline"}), tmp_path / "run")
    run_trial(tracker, {"train.learning_rate": 0.1, "hub_token": SECRET})
    assert not tracker.failed
    assert [each[0] for each in told] == ["options", "settings", "start", "log", "finish", "close", "killed"]
    assert told[1][1] == "offline" and told[1][2]["dir"] == str(tmp_path / "run") and told[1][2]["group"] == "movies"
    assert "runtime_env" not in told[0][1] and SECRET not in repr(told)
    config, (line,) = recorded(tmp_path / "run", "*-0001")
    assert config["train.learning_rate"] == 0.1 and config["hub_token"] == "***"
    assert (line["eval_loss"], line["_step"]) == (0.5, 1) and "config" not in line


def test_trials_that_run_at_once_have_records_of_their_own_and_a_paused_one_goes_on_with_its_own(
    tmp_path: Path,
) -> None:
    writer = WandbWriter("offline", project="p", entity=None, group="g", dir=str(tmp_path))
    for trial in ("a", "b", "a"):  # the third when it copied another
        assert writer.start(trial, f"trial {trial}", {"rate": trial}) is None
    for step in (1, 2):
        writer.log("a", {"eval_loss": 1.0 / step}, step)
        writer.log("b", {"eval_loss": 9.0}, step)
    writer.finish("b")
    writer.log("a", {"eval_loss": 0.1}, 3)
    writer.close()  # a Ctrl-C: nobody said that it ended
    config, history = recorded(tmp_path, "a")
    assert config["rate"] == "a"
    assert [line["eval_loss"] for line in history] == [1.0, 0.5, 0.1]
    assert [line["eval_loss"] for line in recorded(tmp_path, "b")[1]] == [9.0, 9.0]


def test_a_server_that_cannot_be_reached_is_asked_once_and_the_records_stay_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[tuple[Any, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    modes: list[str] = []
    really = wandb.init

    def init(*, mode: str, **settings: Any) -> Any:
        modes.append(mode)
        if mode == "online":
            raise wandb.errors.CommError("nobody answers\nfor long")
        return really(mode=mode, **settings)

    monkeypatch.setattr("wandb.init", init)
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    (tracker,) = trackers(experiment(tensorboard=False, wandb={"mode": "online"}), tmp_path / "run")
    for trial in ("0001", "0002"):
        tracker(Started(trial, {}))
        tracker(Reported(trial, {"step": 1, "eval_loss": 0.5}))
    tracker(Closed("all trials have ended"))
    assert modes == ["online", "offline", "offline"]
    assert told[0][1]["runtime_env"] == {"env_vars": {"WANDB_API_KEY": SECRET}}
    (warning,) = own(caplog)
    assert warning == f"W&B can't be reached, records stay in {tmp_path / 'run/wandb'}: nobody answers"
    assert [recorded(tmp_path / "run", f"*-{trial}")[1][0]["eval_loss"] for trial in ("0001", "0002")] == [0.5, 0.5]


def test_a_process_that_dies_switches_wandb_off_and_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[tuple[Any, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    def dies(self: WandbWriter, *args: Any) -> None:
        raise RuntimeError("The actor died unexpectedly\n\nThe actor is dead because its node has died.")

    monkeypatch.setattr(WandbWriter, "log", dies)
    (tracker,) = trackers(experiment(tensorboard=False, wandb={"mode": "offline"}), tmp_path / "run")
    run_trial(tracker, {})
    (warning,) = own(caplog)
    assert warning.startswith("W&B is switched off, the search goes on: RuntimeError: The actor is dead")
    assert [each[0] for each in told][2:] == ["start", "log"]
    tracker._tracker._writer._actor.close()
