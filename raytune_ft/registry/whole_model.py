"""Whether a directory holds a fully fine-tuned model that is whole, safe, and of this base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from raytune_ft.data.safetensors_header import TensorInfo, read_header
from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.registry.adapter import AdapterFacts
from raytune_ft.registry.base import base_directory, weight_files
from raytune_ft.training.tuned import tuned_files

_TIED = "lm_head.weight"  # saved or not, where it is the embeddings' own tensor


def check_model(directory: Path, base_model: str) -> AdapterFacts:
    """Proves that `directory` can be served instead of `base_model`, from JSON and safetensors headers alone.

    Raises:
        IntegrityError: A file is missing, truncated or not safetensors.
        RaytuneError: Its tensors are not those of the base.
    """
    files = tuned_files(directory)
    if not files:
        raise IntegrityError(f"{directory}: holds no adapter and no model as safetensors; make the checkpoint again")
    if not (directory / "config.json").is_file():
        raise IntegrityError(f"{directory}: holds no config.json; make the checkpoint again")
    _check_tensors(directory, base_model, _tensors(files), _tensors(weight_files(base_directory(base_model))))
    return AdapterFacts(0, {})


def _tensors(files: list[Path]) -> dict[str, TensorInfo]:
    return {name: info for path in files for name, info in read_header(path).items()}


def _check_tensors(
    directory: Path, base_model: str, tensors: Mapping[str, TensorInfo], base: Mapping[str, TensorInfo]
) -> None:
    if not tensors.keys() & base.keys():
        return  # transformers renames all of them on loading
    if missing := sorted(base.keys() - tensors.keys() - {_TIED}):
        raise IntegrityError(f"{directory}: {missing[0]} is missing; make the checkpoint again")
    for name in sorted(tensors.keys() - {_TIED}):
        if name not in base or tensors[name].shape != base[name].shape:
            own = list(tensors[name].shape)
            theirs = list(base[name].shape) if name in base else "not there"
            raise RaytuneError(f"{directory}: {name} is {own}, in {base_model} {theirs}; it is of another base")
