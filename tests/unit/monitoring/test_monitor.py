"""Logged requests against a run's data, with a tiny model that knows the run's task."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from raytune_ft.config.load import load_experiment
from raytune_ft.errors import InputError
from raytune_ft.monitoring.monitor import LIMITS, check_drift
from raytune_ft.monitoring.perplexity import PART_ANSWER, PART_INPUT, TokenRow
from raytune_ft.objectives.prepared import prepare
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.serving.records.records import RecordLog

MODEL = "tiny-llama:toy@1"
OTHER_WORLD = [
    {"prompt": f"INVOICE #{number * 37}: {number} x pipe @ ${number}.99 / VAT {number % 9}% => SUM?", "completion": "?"}
    for number in range(11, 71)
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with data and a winner that was trained on whole rows for some seconds."""
    root = tmp_path_factory.mktemp("monitored")
    for name, seed, count in (("train", 1, 240), ("validation", 2, 60)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toy_rows(count, seed)))
    values = {
        "name": "toy",
        "base_model": str(tiny_llama),
        "data": {"train": str(root / "train.jsonl"), "validation": str(root / "validation.jsonl"), "max_length": 64},
        "train": {"max_steps": 4, "dtype": "float32"},
    }
    run = RunDirectory(root / "runs" / "toy")
    run.root.mkdir(parents=True)
    run.experiment.write_text(yaml.safe_dump(values))
    experiment = load_experiment(run.experiment)
    prepare(experiment, run.data)
    _train_adapter(experiment, run)
    write_json(run.winner, {"trial": "0001", "parameters": {}, "adapter": "adapter"})
    return run


def toy_rows(count: int, seed: int) -> list[dict[str, str]]:
    draw = random.Random(seed)
    places, sights = ["bridge", "harbour", "library", "market"], ["empty", "crowded", "bright", "foggy", "quiet"]
    rows = []
    for _ in range(count):
        sunny = draw.random() < 0.5
        words = [*draw.sample(sights, 2), "sunny" if sunny else "rainy"]
        prompt = f"Note: the {draw.choice(places)} is {words[0]}, {words[1]} and {words[2]}.\nSwim:"
        rows.append({"prompt": prompt, "completion": " yes" if sunny else " no"})
    return rows


def _train_adapter(experiment: Any, run: RunDirectory) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    from raytune_ft.data.arrow_rows import ArrowRows
    from raytune_ft.methods.weights.base_model import load_base

    torch.manual_seed(0)
    model = get_peft_model(load_base(experiment), LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    rows = ArrowRows(run.data / "train")
    for step in range(25):
        batch = [torch.tensor(rows[(step * 16 + i) % len(rows)][0].astype("int64")) for i in range(16)]
        ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(each) for each in batch], batch_first=True)
        loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(run.root / "adapter")


def log_of(tmp_path: Path, rows: list[dict[str, str]], model: str = MODEL) -> Path:
    log = RecordLog(tmp_path / "log", "a", prompts=True)
    for number, row in enumerate(rows):
        log.write_prompt(f"{model}-{number}", None, model, row["prompt"], row["completion"])
    return tmp_path / "log"


def test_requests_of_the_same_task_show_no_drift(run: RunDirectory, tmp_path: Path) -> None:
    report = check_drift(log_of(tmp_path, toy_rows(60, seed=3)), run)
    assert [measure.name for measure in report.measures] == list(LIMITS)
    assert not report.drift, report.measures
    assert (report.adapter, report.logged, report.compared, report.training_rows) == ("toy", 60, 60, 240)


def test_requests_from_another_world_drift_in_everything(run: RunDirectory, tmp_path: Path) -> None:
    report = check_drift(log_of(tmp_path, OTHER_WORLD), run)
    assert {measure.name for measure in report.measures if measure.drift} == set(LIMITS), report.measures
    assert all(measure.sure <= 0.01 for measure in report.measures)


def test_a_sample_is_drawn_and_other_models_and_forms_are_left_out(run: RunDirectory, tmp_path: Path) -> None:
    log = log_of(tmp_path, toy_rows(60, seed=3))
    log_of(tmp_path, OTHER_WORLD, model="tiny-llama")
    log_of(tmp_path, OTHER_WORLD, model="tiny-llama:other@1")
    writer = RecordLog(log, "b", prompts=True)
    writer.write_prompt("long", None, MODEL, "Note: the bridge is empty. " * 10, " yes" * 80)
    writer.write_prompt("chat", None, MODEL, [{"role": "user", "content": "Hi"}], "Hello")
    writer.write_prompt("none", None, MODEL, "Note: the bridge is empty", "")
    report = check_drift(log, run, sample=100, model=False)
    assert (report.logged, report.compared, report.drift) == (63, 60, False)
    assert report.left_out == {
        "longer than max_length": 1, "asked in another form than it was trained on": 1, "the answer is empty": 1,
    }  # fmt: skip
    assert check_drift(log, run, sample=30, model=False).compared <= 30


def test_too_few_requests_say_nothing(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no logged request to toy"):
        check_drift(tmp_path, run)
    with pytest.raises(InputError, match="20 are needed"):
        check_drift(log_of(tmp_path, toy_rows(19, seed=3)), run)


def test_the_verb_monitor_tells_and_fails_only_where_it_is_asked_to(run: RunDirectory, tmp_path: Path) -> None:
    from raytune_ft.cli.app import app

    log = log_of(tmp_path, OTHER_WORLD)
    arguments = ["monitor", str(log), "--run", str(run.root), "--no-model"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("drift") > 2 and "60 of 60 requests to toy" in shown.output
    as_json = CliRunner().invoke(app, [*arguments, "--json", "--fail-on-drift"])
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["drift"] is True
    same = log_of(tmp_path / "same", toy_rows(60, seed=3))
    fine = CliRunner().invoke(app, ["monitor", str(same), "--run", str(run.root), "--no-model", "--fail-on-drift"])
    assert fine.exit_code == 0


def test_an_input_is_what_stands_before_the_last_answer() -> None:
    row = TokenRow([1, 2, 3, 4, 5, 6, 7], [-100, 2, -100, -100, 5, 6, -100])
    assert row.input() == [1, 2, 3, 4]
    assert TokenRow([1, 2, 3], [1, 2, 3]).input() == [1, 2, 3]
    asked, answered = row.of_part(PART_INPUT, 6), row.of_part(PART_ANSWER, 7)
    assert asked is not None and asked.labels == [1, 2, 3, 4, -100, -100, -100]
    assert answered is not None and answered.labels == [-100, 2, -100, -100, 5, 6, -100]
    assert TokenRow([1, 2, 9], [-100, -100, 9]).of_part(PART_ANSWER, 9) is None
