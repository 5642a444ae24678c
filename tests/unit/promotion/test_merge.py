"""Winners that become models of their own, with engines that a test makes up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from raytune_ft.cli.app import app
from raytune_ft.errors import RaytuneError
from raytune_ft.paths import RunDirectory
from raytune_ft.promotion.gates import GateRefusedError
from raytune_ft.promotion.promote import promote
from raytune_ft.registry.listing import list_versions
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.staging import STAGING
from raytune_ft.registry.store import Registry

MODEL_FILES = {"README.md", "config.json", "manifest.json", "model.safetensors"}


@pytest.fixture
def dora(run: RunDirectory, write_adapter: Callable[..., Path], evaluate: Callable[..., None]) -> RunDirectory:
    """The run, its winner an adapter that vLLM can't load."""
    write_adapter(use_dora=True)
    evaluate()
    return run


def merge_in_file(run: RunDirectory, how: str) -> None:
    experiment = yaml.safe_load(run.experiment.read_text())
    run.experiment.write_text(yaml.safe_dump({**experiment, "promotion": {"merge": how}}))


def test_a_merged_winner_is_a_whole_model_with_its_adapters_facts(run: RunDirectory, registry: Registry) -> None:
    done = promote(run, registry, merge=True)
    found = verify(done.path)
    assert (found.merged, found.lora_rank, found.trial) == (True, 2, "0003")
    assert {path.name for path in done.path.iterdir()} == MODEL_FILES
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in done.path.iterdir()), "an endpoint's user must read it"
    assert not (registry.root / STAGING / done.path.name).exists()
    assert [row.merged for row in list_versions(registry)] == [True]
    card = (done.path / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "transformers"
    assert "with a LoRA adapter in its weights" in card


def test_parity_asks_vllm_for_the_merged_model_and_no_adapter(
    run: RunDirectory, registry: Registry, engines: Any
) -> None:
    promote(run, registry, merge=True)
    assert engines.names == ["writing the model", "transformers", "vLLM"]
    spec = dict(engines.asked)["vLLM"]
    assert spec["adapters"] == {"candidate": None}
    assert STAGING in spec["base_model"] and dict(engines.asked)["writing the model"]["target"] == spec["base_model"]


def test_a_merged_model_that_drifts_is_refused_and_nothing_stays(
    run: RunDirectory, registry: Registry, engines: Any
) -> None:
    engines.drift = 1.0
    with pytest.raises(GateRefusedError, match="not what was trained"):
        promote(run, registry, merge=True)
    assert registry.adapters() == []
    assert [path.name for path in (registry.root / STAGING).iterdir()] == [".lock"]


def test_what_vllm_cant_load_is_merged_only_where_that_is_wanted(dora: RunDirectory, registry: Registry) -> None:
    with pytest.raises(RaytuneError, match="use_dora True can't be served by vLLM"):
        promote(dora, registry)
    merge_in_file(dora, "needed")
    done = promote(dora, registry)
    assert verify(done.path).merged
    assert "use_dora True can't be served" in done.gates["format"]["reason"]


def test_needed_leaves_a_winner_that_vllm_loads_an_adapter(run: RunDirectory, registry: Registry, engines: Any) -> None:
    merge_in_file(run, "needed")
    assert not verify(promote(run, registry).path).merged
    merge_in_file(run, "always")
    assert verify(promote(run, registry).path).merged
    # The champion is the same adapter, so nothing has to be scored; against a merged one everything is.
    again = promote(run, registry)
    assert again.gates["no_worse"]["rows"] == 400


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"init_lora_weights": "loftq"}, "is not found again"),
        ({"init_lora_weights": "pissa_niter_4"}, "is not found again"),
        ({"layer_replication": [[0, 1]]}, "can't be merged into the base"),
        ({"base_model_name_or_path": "other"}, "the adapter's base is 'other'"),
        ({"r": 0}, "is no rank"),
    ],
)
def test_an_adapter_that_cant_be_merged_is_refused(
    run: RunDirectory, registry: Registry, write_adapter: Callable[..., Path], evaluate: Callable[..., None],
    change: dict[str, Any], reason: str,
) -> None:  # fmt: skip
    write_adapter(**change)
    evaluate()
    with pytest.raises(RaytuneError, match=reason):
        promote(run, registry, merge=True)
    assert registry.adapters() == []


@pytest.mark.parametrize("change", [{"use_dora": True}, {"init_lora_weights": "pissa"}, {"rank_pattern": {"q": 4}}])
def test_other_adapters_are_merged(
    run: RunDirectory, registry: Registry, write_adapter: Callable[..., Path], evaluate: Callable[..., None],
    change: dict[str, Any],
) -> None:  # fmt: skip
    write_adapter(**change)
    evaluate()
    assert verify(promote(run, registry, merge=True).path).merged


def test_the_verb_says_what_was_typed(run: RunDirectory, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.root.parent.parent)
    words = ["promote", "runs/movies", "--merge", "--as", "challenger", "--skip", "retention"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert verify(registry.path("movies", 1)).command == (
        "raytune-ft promote runs/movies --as challenger --merge --skip retention"
    )
    listed = CliRunner().invoke(app, ["adapters", "--registry", str(registry.root), "--json"])
    assert json.loads(listed.output)[0]["merged"] is True
    assert os.getcwd() not in (registry.path("movies", 1) / "README.md").read_text()
