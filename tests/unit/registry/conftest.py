"""A base and an adapter of a few bytes, written as safetensors without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.registry.add import Provenance, add_version
from raytune_ft.registry.store import Registry

MODULE = "model.layers.0.self_attn.q_proj"
Shapes = Mapping[str, tuple[int, ...]]


def write_safetensors(path: Path, shapes: Shapes, fill: int = 1) -> Path:
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in shapes.items():
        size = 4
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    raw = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes([fill]) * offset)
    return path


@pytest.fixture
def write_base(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str = "base-model", fill: int = 1, width: int = 6) -> Path:
        directory = tmp_path / "models" / name
        shapes = {f"{MODULE}.weight": (width, 4), "model.embed_tokens.weight": (5, 4)}
        write_safetensors(directory / "model.safetensors", shapes, fill)
        (directory / "config.json").write_text("{}")
        return directory

    return write


@pytest.fixture
def base_model(write_base: Callable[..., Path]) -> Path:
    return write_base()


@pytest.fixture
def write_adapter(tmp_path: Path, base_model: Path) -> Callable[..., Path]:
    """Writes an adapter directory; keyword arguments replace keys of adapter_config.json."""

    def write(name: str = "adapter", *, rank: int = 2, fill: int = 1, module: str = MODULE, **changes: Any) -> Path:
        directory = tmp_path / name
        stem = f"base_model.model.{module}"
        shapes = {f"{stem}.lora_A.weight": (rank, 4), f"{stem}.lora_B.weight": (6, rank)}
        write_safetensors(directory / "adapter_model.safetensors", shapes, fill)
        config = {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": 16,
            "target_modules": ["q_proj"],
            "bias": "none",
            "init_lora_weights": True,
            "base_model_name_or_path": str(base_model),
            **changes,
        }
        (directory / "adapter_config.json").write_text(json.dumps(config))
        (directory / "optimizer.pt").write_bytes(b"of no interest")
        return directory

    return write


@pytest.fixture
def safetensors() -> Callable[..., Path]:
    return write_safetensors


@pytest.fixture
def registry(tmp_path: Path, base_model: Path, write_adapter: Callable[..., Path]) -> Registry:
    """Three versions of `movies`, no alias."""
    registry = Registry(tmp_path / "registry")
    provenance = Provenance(
        base_model=str(base_model), data_fingerprint="f" * 64, form="prompt_completion", study="s", trial="0001",
        command="a test",
    )  # fmt: skip
    for fill in (1, 2, 3):
        add_version(registry, "movies", write_adapter(fill=fill), provenance)
    return registry
