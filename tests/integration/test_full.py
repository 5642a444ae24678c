"""Full fine-tuning for real: searched beside LoRA, evaluated and written as a model; sharded, killed, and gone on."""

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
from raytune_ft.events.kinds import Event, Reported, Started
from raytune_ft.methods.weights.model_check import check_model
from raytune_ft.metrics.report import value_in
from raytune_ft.promotion.promote import promote
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.store import Registry
from raytune_ft.search.single import train_once
from raytune_ft.training.metrics_log import read_metrics

RATE, METHOD, RANK = "train.learning_rate", "method.type", "method.r"
TRAIN = {"learning_rate": 3e-3, "max_steps": 6, "eval_steps": 2, "dtype": "float32"}


class Watcher:
    """Kills one of the workers as soon as the trial has reported, if wanted."""

    def __init__(self, killed: Path | None = None) -> None:
        self.killed, self.did_kill, self.steps = killed, False, list[int]()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started) and self.killed is not None:
            threading.Thread(target=self._kill, args=(self.killed,), daemon=True).start()
        if isinstance(event, Reported):
            self.steps.append(event.report["step"])

    def _kill(self, metrics: Path) -> None:
        while not metrics.exists() or not metrics.read_text():
            time.sleep(0.005)
        below = psutil.Process().children(recursive=True)
        next(each for each in below if "ray::RayTrainWorker" in " ".join(each.cmdline())).kill()
        self.did_kill = True


def test_it_is_searched_beside_lora_proved_and_becomes_a_model(
    cluster: None, toy_experiment: Callable[..., Path], tiny_llama: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    parameters = {
        RATE: {"loguniform": [1e-5, 1e-2]},
        METHOD: {"choice": ["lora", "full"]},
        RANK: {"choice": [2, 4], "when": {METHOD: "lora"}},
    }
    start = [{RATE: 1e-5, METHOD: "lora", RANK: 2}, {RATE: 3e-3, METHOD: "full"}]
    search = {"space": {"parameters": parameters, "start_from": start}, "scheduler": {"type": "none"}, "trials": 2}
    train = {**TRAIN, "per_device_train_batch_size": 8}
    experiment = load_experiment(toy_experiment(search=search, train=train))
    result = api.run_sweep(experiment)
    assert {row.trial: row.outcome for row in result.board} == {"0000": "completed", "0001": "completed"}
    assert result.winner.trial == "0001" and result.winner.parameters == start[1]
    curve = read_metrics(result.run.trial("0001").metrics)
    assert value_in(curve[-1], "eval_loss") < value_in(curve[0], "eval_loss")
    assert curve[-1]["adapter_mib"] == pytest.approx(
        (tiny_llama / "model.safetensors").stat().st_size / 2**20, rel=0.01
    )

    compared = api.evaluate(result.run, print)
    assert compared["difference"]["loss"]["high"] < 0
    registry = Registry(Path(experiment.registry.path))
    done = promote(result.run, registry, skip=["parity", "retention", "gain"])
    found = verify(done.path)
    assert found.full and found.merged
    assert not [path.name for path in done.path.iterdir() if path.suffix in (".bin", ".pt", ".pth")]
    written = AutoModelForCausalLM.from_pretrained(done.path).state_dict()
    base = AutoModelForCausalLM.from_pretrained(tiny_llama).state_dict()
    saved = AutoModelForCausalLM.from_pretrained(result.run.root / result.winner.checkpoint).state_dict()
    assert all(torch.equal(written[name], saved[name]) for name in written)
    assert not any(torch.equal(written[name], base[name]) for name in written)


@pytest.mark.system
def test_sharded_by_zero_3_and_killed_on_the_way_it_has_the_curve_of_one_undisturbed_worker(
    cluster: None, toy_experiment: Callable[..., Path], tiny_llama: Path, tmp_path: Path
) -> None:
    alone = train_once(load_experiment(_experiment(toy_experiment, "alone", 8, {"workers": 1})), Watcher())
    resources = {"workers": 2, "strategy": {"type": "deepspeed", "zero_stage": 3}, "max_failures": 1}
    watcher = Watcher(tmp_path / "runs" / "sharded" / "trials" / "0000" / "metrics.jsonl")
    sharded = train_once(load_experiment(_experiment(toy_experiment, "sharded", 4, resources)), watcher)
    assert watcher.steps == [2, 4, 6]  # told in this process
    assert watcher.did_kill
    curves = [read_metrics(each.run.trial("0000").metrics) for each in (alone, sharded)]
    for one, other in zip(*curves, strict=True):
        assert other["step"] == one["step"]
        assert value_in(other, "eval_loss") == pytest.approx(value_in(one, "eval_loss"), rel=1e-3)
    check_model(sharded.run.root / sharded.winner.checkpoint, str(tiny_llama))


def _experiment(toy_experiment: Callable[..., Path], name: str, batch: int, resources: dict[str, Any]) -> Path:
    train = {**TRAIN, "per_device_train_batch_size": batch}
    return toy_experiment(name=name, train=train, resources=resources, search=None, method={"type": "full"})
