"""What the tests of the real engine share: the real base, and versions of it that answer differently."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.assets import fetch_assets
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
            source = _save_adapter(base_model, tmp_path_factory.mktemp("adapter"), seed)
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


def _save_adapter(base_model: Path, directory: Path, seed: int) -> Path:
    """A small random adapter that is strong enough to change every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.bfloat16)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    tuned = get_peft_model(model, config)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    tuned.save_pretrained(directory)
    return directory
