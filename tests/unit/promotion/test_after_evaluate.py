"""A tiny model's run, really evaluated, and its champion really scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.resolve import resolved_yaml
from raytune_ft.config.load import load_experiment
from raytune_ft.errors import InputError
from raytune_ft.evaluation.compare import evaluate_run
from raytune_ft.evaluation.uses import Uses, read_uses
from raytune_ft.methods.weights.base_weights import base_sha256
from raytune_ft.objectives.prepared import prepare
from raytune_ft.paths import RunDirectory, read_json, write_json, write_text
from raytune_ft.promotion import child, reference
from raytune_ft.promotion.promote import promote
from raytune_ft.registry.store import Registry

THINKS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ message['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def tiny_run(toy_experiment, tiny_llama: Path, tmp_path: Path) -> RunDirectory:
    """A run with a winner.json and no adapter yet."""
    promotion = {"parity": None, "min_rows": 16, "no_worse": {"margin": 100.0}}
    experiment = load_experiment(toy_experiment(evaluate={"metrics": ["loss"]}, promotion=promotion))
    return run_of(experiment, tiny_llama, tmp_path)


def run_of(experiment: Experiment, tiny_llama: Path, tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "runs" / "toy")
    prepared = prepare(experiment, run.data)
    write_text(run.experiment, resolved_yaml(experiment))
    write_json(
        run.winner,
        {
            "schema": 1, "experiment": "toy", "trial": "0000", "parameters": {}, "metric": "eval_loss", "value": 1.0,
            "step": 4, "adapter": "trials/0000/checkpoints/step-000004", "base_model": str(tiny_llama),
            "base_sha256": base_sha256(str(tiny_llama)), "data_fingerprint": prepared.fingerprint,
        },
    )  # fmt: skip
    return run


def save_adapter(run: RunDirectory, base: Path, seed: int) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(run.root / "trials/0000/checkpoints/step-000004")


def test_a_champion_is_scored_as_evaluate_scored_it(
    tiny_run: RunDirectory, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def in_this_process(module: str, spec: dict[str, Any], *rest: Any) -> dict[str, Any]:
        asked.append(module)
        return dict(reference.work(spec))

    monkeypatch.setattr(child, "run_child", in_this_process)
    registry = Registry(tmp_path / "registry")
    losses = []
    for seed in (0, 1):
        save_adapter(tiny_run, tiny_llama, seed)
        evaluation = evaluate_run(tiny_run, lambda line: None)
        losses.append(evaluation["systems"]["winner"]["loss"])
        done = promote(tiny_run, registry, skip=["gain"], force=True)
    assert asked == ["raytune_ft.promotion.reference"]
    assert read_uses(tiny_run) == Uses(2, 2, 1)
    assert done.gates["no_worse"]["mean"] == pytest.approx(losses[1] - losses[0], abs=1e-5)
    assert done.gates["no_worse"]["mean"] != pytest.approx(0, abs=1e-4)
    assert done.gates["base"]["reason"].startswith("the weights that it was trained on")
    retention = done.gates["retention"]
    assert retention["ratio"] == pytest.approx(retention["winner"] / retention["base"])
    assert evaluation["retention"]["texts"] == 40 and evaluation["retention"]["tokens"] > 1000


def test_settings_of_evaluate_can_be_changed_on_a_finished_run(
    tiny_run: RunDirectory, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And `promote` scores the champion as the winner was scored."""
    monkeypatch.setattr(child, "run_child", lambda module, spec, *rest: dict(reference.work(spec)))
    registry = Registry(tmp_path / "registry")
    save_adapter(tiny_run, tiny_llama, 0)
    as_started = evaluate_run(tiny_run, lambda line: None)
    promote(tiny_run, registry, skip=["gain"], force=True)
    save_adapter(tiny_run, tiny_llama, 1)
    changed = ["evaluate.batch_size=1", "evaluate.metrics=[loss, accuracy]", "evaluate.labels=[' yes', ' no']"]
    evaluation = evaluate_run(tiny_run, lambda line: None, changed)
    assert evaluation["settings"]["batch_size"] == 1 and evaluation["labels"] == [" yes", " no"]
    assert evaluation["systems"]["base"]["loss"] == pytest.approx(as_started["systems"]["base"]["loss"], abs=1e-5)
    assert 0 < evaluation["systems"]["base"]["accuracy"] < 1
    assert load_experiment(tiny_run.experiment).evaluate.labels == []
    done = promote(tiny_run, registry, skip=["gain"], force=True)
    assert done.gates["no_worse"]["metric"] == "accuracy"
    with pytest.raises(InputError, match=r"^--set data\.max_length: is what the run was trained with"):
        evaluate_run(tiny_run, lambda line: None, ["data.max_length=10"])
    with pytest.raises(InputError, match="batch_size"):
        evaluate_run(tiny_run, lambda line: None, ["evaluate.batch_size=0"])


def test_chats_are_compared_by_their_last_answer_though_the_template_opens_it_with_a_thought(
    toy_experiment, tiny_llama: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_llama, tmp_path / "thinks"))
    (model / "chat_template.jinja").write_text(THINKS)
    path = toy_experiment(base_model=str(model), evaluate={"metrics": ["accuracy"], "labels": ["yes", "no"]})
    values = yaml.safe_load(path.read_text())
    for split in ("train", "validation", "test"):
        rows = [json.loads(line) for line in Path(values["data"][split]).read_text().splitlines()]
        turns = [
            [("user", "first"), ("assistant", "crowded"), ("user", row["prompt"]), ("assistant", row["completion"])]
            for row in rows
        ]
        lines = [{"messages": [{"role": role, "content": text} for role, text in each]} for each in turns]
        Path(values["data"][split]).write_text("".join(json.dumps(line) + "\n" for line in lines))
    experiment = load_experiment(path, ["data.format=messages", "data.max_length=128"])
    run = run_of(experiment, model, tmp_path)
    save_adapter(run, model, 0)
    evaluation = evaluate_run(run, lambda line: None)
    assert {example["expected"] for example in evaluation["examples"]} == {" yes", " no"}
    assert {example["winner"] for example in evaluation["examples"]} <= {"yes", "no"}
    right = [example["winner"] == example["expected"].strip() for example in evaluation["examples"]]
    assert evaluation["rows"] == 32 and 0 < sum(right) < len(right)
    assert 0 < evaluation["systems"]["winner"]["accuracy"] < 1


def test_one_test_row_is_refused_before_a_model_is_loaded(tiny_run: RunDirectory) -> None:
    manifest = read_json(tiny_run.data / "manifest.json")
    manifest["splits"]["test"]["rows"] = 1
    write_json(tiny_run.data / "manifest.json", manifest)
    with pytest.raises(InputError, match=r"^data\.test: has one row, .*; give at least two"):
        evaluate_run(tiny_run, lambda line: None)
