"""The base model of an adapter: what it is called, where its files are, and the hash of its weights."""

from __future__ import annotations

from pathlib import Path

from raytune_ft.training.weights.base_weights import base_directory, base_sha256, weight_files

__all__ = ["base_directory", "base_id", "base_sha256", "weight_files"]


def base_id(base_model: str) -> str:
    """What the base is called at the endpoint: its directory's name, or the hub id with `/` as `--`."""
    path = Path(base_model).expanduser()
    name = path.resolve().name if path.is_dir() else base_model.rstrip("/").replace("/", "--")
    return name.replace(":", "-")
