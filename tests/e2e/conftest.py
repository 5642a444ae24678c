"""What the tests of the real engine share: the real base, and versions of it that answer differently."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.assets.fetch import fetch_assets
from raytune_ft.config.files.resolve import resolved_yaml
from raytune_ft.config.load import load_experiment
from raytune_ft.hardware.device import common_type
from raytune_ft.hardware.here import cpu_here
from raytune_ft.methods.weights.base_weights import base_sha256
from raytune_ft.objectives.prepared import prepare
from raytune_ft.paths import RunDirectory, sha256_file, write_json, write_text
from raytune_ft.registry.add import Provenance, add_version
from raytune_ft.registry.store import Registry

BASE = "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def base_model() -> Path:
    fetch_assets(Path("assets"), print)
    return Path("assets") / BASE


@pytest.fixture(scope="session")
def random_versions(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Registry]:
    """Makes a registry whose `movies` has so many versions, the first its champion."""

    def make(count: int) -> Registry:
        registry = Registry(tmp_path_factory.mktemp("registry"))
        for seed in range(count):
            directory = tmp_path_factory.mktemp("adapter")
            source = _save_adapter(base_model, directory, seed, 0.2, r=4, target_modules=["q_proj", "v_proj"])
            provenance = Provenance(
                base_model=str(base_model),
                data_fingerprint="none",
                form="prompt_completion",
                study="test",
                trial=str(seed),
                command="a test",
            )
            add_version(registry, "movies", source, provenance)
        registry.set_alias("movies", "champion", 1)
        return registry

    return make


@pytest.fixture(scope="session")
def untrained_run(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDirectory]:
    """Makes a run whose adapter was never trained, but answers otherwise than the base."""

    def make(name: str, *settings: str, std: float = 0.04, **lora: Any) -> RunDirectory:
        root = tmp_path_factory.mktemp(name)
        overrides = [
            f"name={name}", f"output_dir={root}/runs", f"registry.path={root}/registry",
            "data.max_train_rows=32", "data.max_validation_rows=16", "data.max_test_rows=64",
            f"train.dtype={common_type([cpu_here()])}", *settings,
        ]  # fmt: skip
        experiment = load_experiment("experiments/quickstart.yaml", overrides)
        run = experiment.run_directory
        prepared = prepare(experiment, run.data)
        write_text(run.experiment, resolved_yaml(experiment))
        adapter = run.root / "trials/0000/checkpoints/step-000001"
        _save_adapter(base_model, adapter, 0, std, r=8, target_modules="all-linear", **lora)
        winner = {"trial": "0000", "step": 1, "base_sha256": base_sha256(str(base_model))}
        winner["dtype"] = experiment.train.number_type
        write_json(
            run.winner,
            {
                **winner, "schema": 1, "experiment": name, "parameters": {}, "metric": "eval_loss", "value": 1.0,
                "adapter": str(adapter.relative_to(run.root)), "base_model": experiment.base_model,
                "data_fingerprint": prepared.fingerprint,
            },
        )  # fmt: skip
        write_json(
            run.evaluation,
            {
                "schema": 1, "rows": 64, "metrics": ["loss"], "systems": {},
                "winner": {**winner, "adapter_sha256": sha256_file(adapter / "adapter_model.safetensors")},
                "difference": {"loss": {"mean": -1.0, "low": -1.1, "high": -0.9, "level": 0.95}},
            },
        )  # fmt: skip
        return run

    return make


def _save_adapter(base_model: Path, directory: Path, seed: int, std: float, **lora: Any) -> Path:
    """A random adapter, the stronger the greater `std` is."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.bfloat16)
    tuned = get_peft_model(model, LoraConfig(lora_alpha=16, task_type="CAUSAL_LM", **lora))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    tuned.save_pretrained(directory)
    return directory
