"""The whole way by the real command on the real model, smaller than the quickstart."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from raytune_ft.assets.fetch import fetch_assets
from raytune_ft.registry.manifest import verify

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "name": "whole-way",
    "train.max_steps": 20,
    "search.trials": 2,
    "search.scheduler.grace_period": 6,
    "data.max_validation_rows": 48,
    "data.max_test_rows": 200,
}


def run(*arguments: str | Path, timeout: int = 2400) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raytune_ft", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def result(*arguments: str | Path) -> Any:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fetch_assets(ROOT / "assets", print)
    return tmp_path_factory.mktemp("whole-way")


def test_a_searched_winner_beats_the_base_and_becomes_the_champion(work: Path) -> None:
    settings = SETTINGS | {"output_dir": str(work / "runs"), "registry.path": str(work / "registry")}
    overrides = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    experiment = "experiments/quickstart.yaml"
    assert result("check", experiment, *overrides)["splits"]["test"] == 200

    swept = run("sweep", experiment, *overrides)
    assert swept.returncode == 0, swept.stderr
    assert "trial 0000 completed" in swept.stderr and "\x1b" not in swept.stderr
    assert "next: raytune-ft evaluate" in swept.stdout
    directory = work / "runs" / "whole-way"

    status = result("status", directory)
    assert sum(status["outcomes"].values()) == 2

    comparison = result("evaluate", directory)
    accuracy = comparison["difference"]["accuracy"]
    assert comparison["rows"] == 200
    assert accuracy["mean"] >= 0.03, comparison["systems"]
    assert comparison["difference"]["loss"]["high"] < 0

    promotion = run("promote", directory, "--force", "--json")
    assert promotion.returncode == 0, promotion.stderr
    version = work / "registry" / "movie-sentiment" / "1"
    manifest = verify(version)
    assert manifest.base_sha256 and manifest.form == "prompt_completion"
    card = (version / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "peft"
    adapters = result("adapters", "--registry", work / "registry")
    assert "champion" in json.dumps(adapters)

    reported = run("report", directory)
    assert reported.returncode == 0, reported.stderr
    page = (directory / "report.html").read_text()
    assert "plotly" in page and not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=.https?:", page)
    assert "W&B" not in swept.stderr and len(list((directory / "wandb").glob("offline-run-*"))) == 2
    assert list((directory / "tensorboard").rglob("events.out.tfevents.*")), "TensorBoard kept no records"

    asked = run("serve", "--demo", directory, "--registry", work / "registry")
    assert asked.returncode == 0, asked.stderr
    assert "smollm2-135m-instruct:movie-sentiment" in asked.stdout
