"""What the shipped files resolve to, how rows are tokenised and what is planned are as they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from raytune_ft.config.files.resolve import resolved_yaml
from raytune_ft.config.load import load_experiment
from raytune_ft.data.fingerprint import data_fingerprint
from raytune_ft.hardware.device import Device
from raytune_ft.objectives.prepared import prepare
from raytune_ft.search.planning.plan import plan_sweep
from raytune_ft.serving.settings import ServeArgs

ROOT = Path(__file__).parents[2]
SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))
PORTFOLIOS = sorted((ROOT / "search_spaces/portfolios").glob("*.yaml"))
SERVED = sorted((ROOT / "serve").glob("*.yaml"))
CPU = Device("a CPU", gflops={"bfloat16": 200.0, "float16": 20.0, "float32": 100.0})
Golden = Callable[..., None]


def resolved(path: Path) -> Any:
    return yaml.safe_load(resolved_yaml(load_experiment(path)))


@pytest.mark.parametrize("path", [*SPACES, *PORTFOLIOS], ids=lambda path: path.stem)
def test_a_shipped_space_and_portfolio_resolve_as_before(
    golden: Golden, settings_of_space: Any, toy_experiment: Callable[..., Path], tmp_path: Path, path: Path
) -> None:
    space = ROOT / "search_spaces" / path.name
    search: dict[str, Any] = {"space": str(space), "trials": 4}
    if path in PORTFOLIOS:
        search["algorithm"] = {"type": "portfolio", "file": str(path)}
    method = {"type": path.stem.split("_")[0]} | ({"r": 8} if "lora" in path.stem else {})
    train = {"per_device_train_batch_size": 8, "max_steps": 100}
    objective: dict[str, Any] = {}
    if settings := settings_of_space(path):
        kind = settings[0].partition("=")[2]
        objective = {"objective": {"type": kind}, "data": {"train": "pairs.jsonl"}, "evaluate": None}
    file = toy_experiment(search=search, method=method, train=train, base_model="models/base", **objective)
    kind = "portfolio" if path in PORTFOLIOS else "space"
    golden(f"{kind}-{path.stem}", resolved(file), {str(tmp_path): "TMP", str(ROOT): "ROOT"})


def test_the_quickstart_resolves_as_before(golden: Golden) -> None:
    golden("quickstart", resolved(ROOT / "experiments/quickstart.yaml"), {str(ROOT): "ROOT"})


@pytest.mark.parametrize("path", SERVED, ids=lambda path: path.stem)
def test_a_shipped_endpoint_resolves_as_before(golden: Golden, path: Path) -> None:
    (application,) = yaml.safe_load(path.read_text(encoding="utf-8"))["applications"]
    golden(f"serve-{path.stem}", ServeArgs.model_validate(application["args"]).model_dump(mode="json"))


CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it sunny?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "And tomorrow?"},
        {"role": "assistant", "content": "No."},
    ]
}


@pytest.mark.parametrize("form", ["prompt_completion", "messages"])
@pytest.mark.parametrize("loss_on", ["completion", "all"])
def test_rows_are_tokenised_as_before(
    golden: Golden, toy_experiment: Callable[..., Path], tiny_llama: Path, tmp_path: Path, form: str, loss_on: str
) -> None:
    from datasets import load_from_disk

    file = toy_experiment(objective={"type": "sft", "loss_on": loss_on}, evaluate=None)
    if form == "messages":
        for split in ("train", "validation", "test"):
            rows = [json.loads(line) for line in (tmp_path / f"data/{split}.jsonl").read_text().splitlines()[:16]]
            chats = [{"messages": [{**each, "content": f"{each['content']} {row['prompt']}"} for each in
                                   CHAT["messages"]]} for row in rows]  # fmt: skip
            (tmp_path / f"data/{split}.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    experiment = load_experiment(file, [f"data.format={form}"])
    prepared = prepare(experiment, tmp_path / "prepared")
    tokens = {}
    for split in prepared.sizes:
        rows = [dict(row) for row in load_from_disk(str(prepared.split(split)))]
        whole = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
        tokens[split] = {"rows": len(rows), "sha256": whole, "first": rows[0]}
    manifest = json.loads((prepared.directory / "manifest.json").read_text())
    found = {
        "tokens": tokens,
        "fingerprint": data_fingerprint(experiment, tiny_llama),
        "manifest": {key: value for key, value in manifest.items() if key != "splits"},
    }
    golden(f"tokens-{form}-{loss_on}", found, {str(tmp_path): "TMP", str(tiny_llama): "MODEL"})


@pytest.mark.parametrize(
    "method", [{"type": "lora", "r": 8, "alpha": 16}, {"type": "full"}], ids=lambda each: each["type"]
)
def test_a_plan_is_as_before(
    golden: Golden, toy_experiment: Callable[..., Path], tmp_path: Path, method: dict[str, Any]
) -> None:
    parameters: dict[str, Any] = {
        "train.learning_rate": {"loguniform": [1e-3, 1e-2]},
        "train.per_device_train_batch_size": {"choice": [2, 8]},
    }
    search = {
        "space": {"parameters": parameters},
        "scheduler": {"type": "asha", "grace_period": 5, "reduction_factor": 3},
        "trials": 8,
        "max_concurrent": 2,
        "budget": {"hours": 2, "prices": {"cpu": 0.05}},
    }
    train = {"max_steps": 45, "dtype": "float32"}
    plan = plan_sweep(load_experiment(toy_experiment(search=search, train=train, method=method)), CPU, 1)
    elsewhere = {"room", "disk"}  # of this machine
    found = {key: value for key, value in asdict(plan).items() if key not in elsewhere}
    golden(f"plan-{method['type']}", found, {str(tmp_path): "TMP"})
