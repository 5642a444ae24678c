"""Estimates the size of a base model from its files or its name, to choose a shipped space for it."""

from __future__ import annotations

import json
import re
from pathlib import Path

_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z0-9])")
_SIZES = ((1.0, "small"), (5.5, "1b_4b"), (10.5, "7b_8b"), (80.0, "13b_70b"))


def billions(base_model: str) -> float | None:
    """Returns the weights in billions by the model's files, or by a name like `Qwen2.5-0.5B`; None if unknown."""
    directory = Path(base_model).expanduser()
    stored = sum(path.stat().st_size for path in directory.glob("*.safetensors")) if directory.is_dir() else 0
    if stored:
        return stored / _bytes_per_weight(directory) / 1e9
    sizes = [float(number) * {"m": 1e-3, "b": 1.0}[unit] for number, unit in _SIZE.findall(directory.name.lower())]
    return sizes[0] if sizes else None


def size_of(base_model: str) -> str | None:
    """Returns the size class in names of shipped spaces, as in `lora_sft_small`; None if unknown or too large."""
    size = billions(base_model)
    return None if size is None else next((name for below, name in _SIZES if size < below), None)


def _bytes_per_weight(directory: Path) -> int:
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # `check` reports what is wrong with it
        return 2
    dtype = config.get("dtype") or config.get("torch_dtype") if isinstance(config, dict) else None
    return 4 if dtype == "float32" else 2
