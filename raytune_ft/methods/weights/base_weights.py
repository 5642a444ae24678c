"""Finds the weight files of a base model, and computes their hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from raytune_ft.config.filled_in import NONE
from raytune_ft.errors import InputError
from raytune_ft.paths import sha256_file


def base_directory(base_model: str) -> Path:
    """Returns the directory of the base's files: `base_model` itself, or its snapshot in the Hugging Face cache.

    Raises:
        InputError: `base_model` is neither a directory nor in the cache.
    """
    path = Path(base_model).expanduser()
    if (path / "config.json").is_file():
        return path
    if path.is_dir() or path.is_absolute() or base_model.count("/") > 1 or base_model.startswith("."):
        raise InputError(base_model, "is not a model directory (no config.json)", "fetch it, or correct base_model")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(base_model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise InputError(
            base_model, "is neither a model directory nor in the Hugging Face cache", f"run: hf download {base_model}"
        ) from error


def weight_files(directory: Path) -> list[Path]:
    """Returns the safetensors files of a model directory, sorted by name."""
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise InputError(str(directory), "holds no *.safetensors", "convert the weights with save_pretrained")
    return files


def base_sha256(base_model: str) -> str:
    """Returns the sha256 over the sorted sha256 of each safetensors file, which is equal for equal weights anywhere."""
    return joint_sha256(weight_files(base_directory(base_model)))


def joint_sha256(files: Iterable[Path]) -> str:
    """Returns the sha256 over the sorted sha256 of each file."""
    return hashlib.sha256("\n".join(sorted(map(sha256_file, files))).encode()).hexdigest()


def recorded_base_sha256(base_model: str) -> str | None:
    """Returns `base_sha256`, or None if there is no base, or not on this machine, as on a cluster's head node."""
    if base_model == NONE:
        return None
    try:
        return base_sha256(base_model)
    except InputError:
        return None


def base_id(base_model: str) -> str:
    """Returns the base's id at the endpoint: its directory's name, or the hub id with `--` in place of `/`."""
    path = Path(base_model).expanduser()
    name = path.resolve().name if path.is_dir() else base_model.rstrip("/").replace("/", "--")
    return name.replace(":", "-")
