"""Preferences, and a base in 4 bits, from `init` to a served answer by the real commands on the real model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
SHORT = ["train.max_steps=12", "search.scheduler.grace_period=6", "search.trials=2", "tracking.tensorboard=false"]


def raytune(*arguments: str, at: Path) -> str:
    """Runs the command line in a directory, and returns what it printed."""
    environment = {key: value for key, value in os.environ.items() if key != "RAYTUNE_FT_API_KEY"}
    command = [sys.executable, "-m", "raytune_ft", *arguments]
    done = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    print(done.stdout, done.stderr[-3000:], sep="\n")
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def sentences(count: int, split: str) -> list[dict[str, str]]:
    lines = (ROOT / f"assets/data/products.{split}.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    short = [row for row in rows if len(row["prompt"]) < 140 and row["completion"] in (" positive", " negative")]
    return short[:count]


@pytest.mark.parametrize("what", ["dpo", "qlora"])
def test_from_init_to_a_served_answer(what: str, base_model: Path, tmp_path: Path) -> None:
    for name in ("assets", "search_spaces"):
        (tmp_path / name).symlink_to(ROOT / name)
    for split, count in {"train": 220, "test": 100}.items():
        rows: list[dict[str, str]] = sentences(count, split)
        if what == "dpo":
            words = {" positive": " good", " negative": " bad"}
            rows = [
                {"prompt": row["prompt"], "chosen": words[row["completion"]], "rejected": row["completion"]}
                for row in rows
            ]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    method = ["--method", "qlora"] if what == "qlora" else []
    files = ["--train", "train.jsonl", "--test", "test.jsonl"]
    raytune("init", "--base-model", str(base_model), *files, "--name", what, *method, at=tmp_path)
    raytune("check", "experiment.yaml", at=tmp_path)
    assert "nan" not in raytune("plan", "experiment.yaml", at=tmp_path)

    settings = [*SHORT, "train.per_device_train_batch_size=4"]
    if what == "qlora":  # the rates of the shipped portfolio cost too much of general text in so few steps
        settings += ["train.learning_rate=3e-4", "promotion.retention.max_ratio=4"]
        raytune("train", "experiment.yaml", *_set(settings), at=tmp_path)
    else:
        raytune("sweep", "experiment.yaml", *_set(settings), at=tmp_path)
    raytune("evaluate", f"runs/{what}", at=tmp_path)
    assert f"{what}@1 is champion now" in raytune("promote", f"runs/{what}", at=tmp_path)
    card = (tmp_path / f"registry/{what}/1/README.md").read_text()
    assert ("4 bits (nf4)" in card and "there, " in card) if what == "qlora" else "preference optimisation (dpo" in card

    asked = tmp_path / "ask.jsonl"
    asked.write_text(json.dumps({"prompt": sentences(1, "test")[0]["prompt"]}) + "\n")
    answered = raytune("serve", "--port", "0", "--max-model-len", "256", "--ask", f"@{asked}", at=tmp_path)
    assert f"{base_model.name}:{what}@1" in answered and "no process is left" in answered


def _set(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]
