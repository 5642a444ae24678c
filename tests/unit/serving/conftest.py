"""A base of a few bytes, registry versions of it without torch, and what a program's log holds."""

from __future__ import annotations

import json
import logging
import shutil
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.methods.weights.adapter_check import check_adapter
from raytune_ft.methods.weights.base_weights import base_sha256
from raytune_ft.registry.add import Provenance, add_staged, add_version
from raytune_ft.registry.staging import staged_model
from raytune_ft.registry.store import Registry
from raytune_ft.serving.records.exception_lines import keep_texts_out_of_logs

MODULE = "model.layers.0.self_attn.q_proj"


def _write(path: Path, shapes: dict[str, tuple[int, int]], fill: int) -> None:
    header, offset = {}, 0
    for name, (rows, columns) in shapes.items():
        end = offset + 4 * rows * columns
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes([fill]) * offset)


@pytest.fixture
def write_base(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str = "base", fill: int = 1) -> Path:
        directory = tmp_path / "models" / name
        _write(directory / "model.safetensors", {f"{MODULE}.weight": (6, 4)}, fill)
        (directory / "config.json").write_text("{}")
        return directory

    return write


@pytest.fixture
def base(write_base: Callable[..., Path]) -> Path:
    return write_base()


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., Registry]:
    """Adds a version of an adapter to the registry under `tmp_path`, as champion if asked."""

    def add_one(
        base: Path,
        name: str = "movies",
        *,
        rank: int = 2,
        champion: bool = False,
        merged: bool = False,
        dtype: Any = None,
    ) -> Registry:
        source = tmp_path / "source"
        stem = f"base_model.model.{MODULE}"
        shapes = {f"{stem}.lora_A.weight": (rank, 4), f"{stem}.lora_B.weight": (6, rank)}
        _write(source / "adapter_model.safetensors", shapes, 1)
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "target_modules": ["q_proj"]}
        (source / "adapter_config.json").write_text(json.dumps({**config, "init_lora_weights": True}))
        registry = Registry(tmp_path / "registry")
        provenance = Provenance(str(base), "f" * 64, "prompt_completion", "study", "0001", "a test", dtype=dtype)
        if merged:
            facts = check_adapter(source, str(base))
            with staged_model(
                registry, name, facts, lambda path: shutil.copytree(base, path, dirs_exist_ok=True)
            ) as copy:
                version = add_staged(registry, name, copy, provenance, base_sha256(str(base))).version
        else:
            version = add_version(registry, name, source, provenance)
        if champion:
            registry.set_alias(name, "champion", version)
        return registry

    return add_one


@pytest.fixture
def in_a_replica() -> Iterator[None]:
    factory, hooks = logging.getLogRecordFactory(), (sys.excepthook, sys.unraisablehook, threading.excepthook)
    keep_texts_out_of_logs()
    yield
    logging.setLogRecordFactory(factory)
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "uvicorn.error")  # a server of another test may have set it
    return lambda: caplog.text
