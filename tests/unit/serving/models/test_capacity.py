"""How many versions an engine holds follows from the registry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.registry.store import Registry
from raytune_ft.serving.app import engine_settings
from raytune_ft.serving.models import capacity
from raytune_ft.serving.models.capacity import Capacity
from raytune_ft.serving.models.catalog import build_catalog
from raytune_ft.serving.settings import ServeArgs

Add = Callable[..., Registry]


def grow(registry: Registry, numbers: range) -> None:
    """Copies `movies@1` to an adapter for each number, with a champion."""
    source = registry.path("movies", 1)
    manifest = json.loads((source / "manifest.json").read_text())
    for number in numbers:
        name = f"movies{number:03d}"
        shutil.copytree(source, registry.root / name / "1")
        (registry.root / name / "1" / "manifest.json").write_text(json.dumps({**manifest, "adapter": name}))
        (registry.root / name / "aliases.json").write_text('{"champion": 1}')


def held(base: Path, registry: Registry, **options: object) -> Capacity:
    return build_catalog(ServeArgs(base_model=str(base), registry=str(registry.root), **options)).capacity  # type: ignore[arg-type]


def test_one_adapter_has_room_for_those_to_come(base: Path, add: Add) -> None:
    assert held(base, add(base, champion=True)) == Capacity(per_batch=4, loaded=5)


def test_a_hundred_adapters_are_not_all_held(base: Path, add: Add) -> None:
    registry = add(base, champion=True)
    grow(registry, range(5))
    assert held(base, registry) == Capacity(per_batch=6, loaded=10)
    grow(registry, range(5, 100))
    assert held(base, registry) == Capacity(per_batch=8, loaded=64)


def test_settings_override(base: Path, add: Add) -> None:
    registry = add(base, champion=True)
    grow(registry, range(20))
    assert held(base, registry, max_adapters=2, max_loaded_adapters=8) == Capacity(per_batch=2, loaded=8)
    assert held(base, registry, max_adapters=16, max_loaded_adapters=8) == Capacity(per_batch=16, loaded=16)


def test_memory_bounds_them(base: Path, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = add(base, champion=True)
    grow(registry, range(20))
    size = (registry.path("movies", 1) / "adapter_model.safetensors").stat().st_size
    monkeypatch.setattr(capacity, "_LOADED_BYTES", 7 * size)
    monkeypatch.setattr(capacity, "_SLOT_BYTES", 3 * size * 8 // 2)  # slots are as large as rank 8, the files rank 2
    assert held(base, registry) == Capacity(per_batch=3, loaded=7)
    monkeypatch.setattr(capacity, "_SLOT_BYTES", 1)
    assert held(base, registry).per_batch == 1


def test_the_engine_is_told(base: Path, add: Add) -> None:
    registry = add(base, champion=True)
    args = ServeArgs(base_model=str(base), registry=str(registry.root), max_adapters=3, max_loaded_adapters=8)
    settings = engine_settings(args, build_catalog(args), gpus=0)
    assert settings["lora_config"] == {"max_num_adapters_per_replica": 8}
    engine = settings["engine_kwargs"]
    assert (engine["max_loras"], engine["max_lora_rank"]) == (3, 32)
    assert engine["max_cpu_loras"] > 8  # vLLM never forgets before Serve does
