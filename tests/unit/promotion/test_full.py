"""A winner whose weights all moved: a version that is a model of its own, without being asked to be merged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from raytune_ft.cli.app import app
from raytune_ft.errors import IntegrityError
from raytune_ft.paths import RunDirectory
from raytune_ft.promotion.promote import promote
from raytune_ft.registry.listing import list_versions
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.store import Registry


@pytest.fixture
def full(run: RunDirectory, base_model: Path, evaluate: Callable[..., None]) -> RunDirectory:
    """The run, its winner a whole model."""
    winner = run.root / "trials/0003/checkpoints/10"
    shutil.rmtree(winner)
    shutil.copytree(base_model, winner)
    (winner / "training_args.bin").write_bytes(b"a pickle")
    experiment = yaml.safe_load(run.experiment.read_text())
    run.experiment.write_text(yaml.safe_dump({**experiment, "method": {"type": "full"}}))
    evaluate()
    return run


def test_it_is_written_as_a_model_passes_all_gates_and_its_card_says_what_it_is(
    full: RunDirectory, registry: Registry, engines: Any
) -> None:
    done = promote(full, registry)
    found = verify(done.path)
    assert (found.merged, found.full, found.lora_rank) == (True, True, 0)
    assert {path.name for path in done.path.iterdir()} == {
        "README.md", "config.json", "manifest.json", "model.safetensors",
    }  # fmt: skip
    assert engines.names == ["writing the model", "transformers", "vLLM"]
    assert dict(engines.asked)["vLLM"]["adapters"] == {"candidate": None}
    assert done.gates["format"]["reason"] == "a whole model in safetensors, with the base's tensors"
    card = (done.path / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "transformers" and "base_model:finetune:base-model" in front["tags"]
    assert [(row.merged, row.full) for row in list_versions(registry)] == [(True, True)]
    assert "1 full" in CliRunner().invoke(app, ["adapters", "--registry", str(registry.root)]).output
    assert "all its weights fine-tuned" in card and "LoRA" not in card and "alpha" not in card


def test_against_a_champion_that_is_an_adapter_everything_is_scored(
    run: RunDirectory, full: RunDirectory, registry: Registry, engines: Any
) -> None:
    first = promote(full, registry)
    again = promote(full, registry)
    scored = [spec for name, spec in engines.asked if name == "transformers"]
    assert [spec["champion"] for spec in scored] == [None, str(first.path)]
    assert again.gates["no_worse"]["rows"] == 400


def test_weights_that_were_not_evaluated_are_refused(full: RunDirectory, registry: Registry) -> None:
    weights = full.root / "trials/0003/checkpoints/10/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x02")
    with pytest.raises(IntegrityError, match="made for other weights"):
        promote(full, registry)
    evaluation = json.loads(full.evaluation.read_text())
    assert evaluation["winner"]["adapter_sha256"] and registry.adapters() == []


@pytest.mark.parametrize("key", ["adapter", "base_model", "trial"])
def test_a_winner_file_that_lacks_something_is_told_so(run: RunDirectory, registry: Registry, key: str) -> None:
    winner = json.loads(run.winner.read_text())
    del winner[key]
    run.winner.write_text(json.dumps(winner))
    with pytest.raises(IntegrityError, match=f"lacks {key}; run the sweep again"):
        promote(run, registry)
