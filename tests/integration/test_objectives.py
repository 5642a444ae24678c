"""Preferences and a trainer of one's own for real: searched, killed and gone on, evaluated, promoted or refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from raytune_ft import api
from raytune_ft.config.load import load_experiment
from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.events.kinds import Event, Started
from raytune_ft.metrics.report import value_in
from raytune_ft.promotion.promote import promote
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.store import Registry
from raytune_ft.search.single import train_once
from raytune_ft.training.metrics_log import read_metrics

RATE, METHOD = "train.learning_rate", "method.type"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def preferences(
    toy_experiment: Callable[..., Path], toy_preferences: Callable[[], dict[str, Any]]
) -> Callable[..., Path]:
    """Writes an experiment that learns the toy's rows as preferences."""

    def write(**changes: Any) -> Path:
        train = {"learning_rate": 1e-2, "per_device_train_batch_size": 8, "max_steps": 12, "dtype": "float32"}
        values = {"data": toy_preferences(), "objective": {"type": "dpo"}, "train": train, "evaluate": None}
        return toy_experiment(**{**values, **changes})

    return write


def test_preferences_are_searched_with_qlora_beside_lora_proved_and_become_a_version(
    cluster: None, preferences: Callable[..., Path]
) -> None:
    parameters = {
        RATE: {"loguniform": [1e-6, 2e-2]},
        "objective.loss_type": {"choice": ["sigmoid", "ipo"]},
        METHOD: {"choice": ["lora", "qlora"]},
    }
    start = [
        {RATE: 1e-6, "objective.loss_type": "ipo", METHOD: "lora"},
        {RATE: 1e-2, "objective.loss_type": "sigmoid", METHOD: "qlora"},
    ]
    search = {"space": {"parameters": parameters, "start_from": start}, "scheduler": {"type": "none"}, "trials": 2}
    few = {"min_rows": 20}
    experiment = load_experiment(preferences(search=search, promotion=few))
    result = api.run_sweep(experiment)
    assert {row.trial: row.outcome for row in result.board} == {"0000": "completed", "0001": "completed"}
    assert result.winner.parameters == start[1]
    report = read_metrics(result.run.trial("0001").metrics)[-1]
    assert value_in(report, "eval_preference_accuracy") == result.winner.value
    assert value_in(report, "eval_chosen_loss") is not None

    compared = api.evaluate(result.run, print)
    assert compared["difference"]["preference_accuracy"]["low"] > 0
    assert compared["on_trained_base"]["loss"] == pytest.approx(compared["systems"]["winner"]["loss"], rel=0.2)
    assert compared["retention"]["winner"] > 0
    assert compared["on_trained_base"]["loss"] != compared["systems"]["winner"]["loss"]
    done = promote(result.run, Registry(Path(experiment.registry.path)), skip=["parity", "retention"])
    found, card = verify(done.path), (done.path / "README.md").read_text()
    assert (found.method, found.objective, found.form, found.full) == ("qlora", "dpo", "prompt_completion", False)
    assert "preference optimisation (dpo, loss sigmoid, beta 0.1)" in card and "QLoRA" in card
    assert f"loss {compared['on_trained_base']['loss']:.4f} there" in card


class Killer:
    """Kills the worker as soon as the trial has reported once."""

    def __init__(self, metrics: Path) -> None:
        self.metrics, self.did_kill = metrics, False

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        while not self.metrics.exists() or not self.metrics.read_text():
            time.sleep(0.005)
        below = psutil.Process().children(recursive=True)
        next(each for each in below if "ray::RayTrainWorker" in " ".join(each.cmdline())).kill()
        self.did_kill = True


def test_a_killed_trainer_of_ones_own_goes_on_on_its_curve_and_is_not_promoted(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    slow = (tmp_path / "slow.py", "import time\nfrom regression import train as fast\n\n\n")
    slow[0].write_text(
        slow[1] + "def train(settings, data, report, checkpoint):\n"
        "    def told(step, metrics, checkpoint=None):\n"
        "        report(step, metrics, checkpoint=checkpoint)\n"
        "        time.sleep(1.0)\n"
        "    fast(settings, data, told, checkpoint)\n"
    )
    (tmp_path / "regression.py").write_text((ROOT / "experiments/custom/regression.py").read_text())
    base = [
        "train.max_steps=60",
        "train.eval_steps=10",
        f"output_dir={tmp_path / 'runs'}",
        "tracking.tensorboard=false",
    ]
    alone = train_once(load_experiment("experiments/custom/regression.yaml", [*base, "name=alone"]), lambda event: None)
    settings = [*base, "name=killed", f"objective.trainer={slow[0]}:train"]
    killer = Killer(tmp_path / "runs/killed/trials/0000/metrics.jsonl")
    killed = train_once(load_experiment("experiments/custom/regression.yaml", settings), killer)
    assert killer.did_kill
    curves = [read_metrics(each.run.trial("0000").metrics) for each in (alone, killed)]
    assert [report["step"] for report in curves[1]] == [10, 20, 30, 40, 50, 60]
    for one, other in zip(*curves, strict=True):
        assert value_in(other, "rmse") == pytest.approx(value_in(one, "rmse"), rel=1e-5)
    with pytest.raises(InputError, match=r"slow\.py:train knows what it makes, so no gate can judge it"):
        promote(killed.run, Registry(tmp_path / "registry"))
    with pytest.raises(InputError, match="knows what it makes"):
        api.evaluate(killed.run, print)


@pytest.mark.system
@pytest.mark.parametrize("stage", [2, 3])
def test_preferences_on_two_workers_with_deepspeed_have_the_curve_of_one(
    cluster: None, preferences: Callable[..., Path], stage: int
) -> None:
    train = {"learning_rate": 1e-2, "max_steps": 4, "eval_steps": 2, "dtype": "float32"}
    one = {**train, "per_device_train_batch_size": 8}
    alone = preferences(name="alone", train=one, search=None)
    results = [train_once(load_experiment(alone), lambda event: None)]
    two = {**train, "per_device_train_batch_size": 4}
    resources = {"workers": 2, "strategy": {"type": "deepspeed", "zero_stage": stage}}
    sharded = preferences(name="sharded", train=two, search=None, resources=resources)
    results.append(train_once(load_experiment(sharded), lambda event: None))
    curves = [read_metrics(each.run.trial("0000").metrics) for each in results]
    for here, there in zip(*curves, strict=True):
        for metric in ("eval_loss", "eval_chosen_loss", "eval_preference_accuracy"):
            assert value_in(there, metric) == pytest.approx(value_in(here, metric), rel=2e-3)


def test_where_one_worker_of_a_custom_trial_fails_the_others_do_not_wait_for_ever(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.py").write_text(
        "import torch.distributed as dist\n\n\n"
        "def train(settings, data, report, checkpoint):\n"
        "    report(1, {'score': float(dist.get_rank())})\n"
        "    if dist.get_rank() == 1:\n"
        "        raise ValueError('the second one fails')\n"
        "    report(2, {'score': 0.0})\n"
    )
    (tmp_path / "two.yaml").write_text(
        "name: two\n"
        "objective: {type: custom, trainer: two.py:train, metrics: {score: max}}\n"
        "train: {max_steps: 2, eval_steps: 1}\n"
        "resources: {workers: 2}\n"
    )
    with pytest.raises(RaytuneError, match=r"failed: two\.py:7: ValueError: the second one fails"):
        train_once(load_experiment("two.yaml"), lambda event: None)
    (report,) = read_metrics(tmp_path / "runs/two/trials/0000/metrics.jsonl")
    assert value_in(report, "score") == 0.0  # the first worker's
