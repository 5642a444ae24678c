"""The base model of an adapter: its id, its files, and the hash of its weights."""

from __future__ import annotations

from pathlib import Path

from raytune_ft.training.weights.base_weights import base_directory, base_sha256, weight_files

__all__ = ["base_directory", "base_id", "base_sha256", "weight_files"]


def base_id(base_model: str) -> str:
    """Returns the base's id at the endpoint: its directory's name, or the hub id with `--` in place of `/`."""
    path = Path(base_model).expanduser()
    name = path.resolve().name if path.is_dir() else base_model.rstrip("/").replace("/", "--")
    return name.replace(":", "-")
