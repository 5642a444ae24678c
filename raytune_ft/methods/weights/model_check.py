"""Checks that a directory holds a complete and safe fully fine-tuned model of this base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from raytune_ft.data.safetensors_header import TensorInfo, read_headers
from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.methods.weights.adapter_check import AdapterFacts
from raytune_ft.methods.weights.base_weights import base_directory, weight_files
from raytune_ft.methods.weights.tuned import tuned_files

_TIED = "lm_head.weight"  # may be saved or not if it is tied to the embeddings


def check_model(directory: Path, base_model: str) -> AdapterFacts:
    """Checks that `directory` holds tensors with the shapes of `base_model`; reads only JSON and safetensors headers.

    Missing tensors are found only when the model is loaded (`load_base`), because a base's files may hold extra ones.

    Raises:
        IntegrityError: A file is missing, truncated or not safetensors.
        RaytuneError: The tensors do not fit the base.
    """
    files = tuned_files(directory)
    if not files:
        raise IntegrityError(f"{directory}: holds no model.safetensors; make the checkpoint again")
    if not (directory / "config.json").is_file():
        raise IntegrityError(f"{directory}: holds no config.json; make the checkpoint again")
    _check_tensors(directory, base_model, read_headers(files), read_headers(weight_files(base_directory(base_model))))
    return AdapterFacts(0, {}, artefact="model")


def _check_tensors(
    directory: Path, base_model: str, tensors: Mapping[str, TensorInfo], base: Mapping[str, TensorInfo]
) -> None:
    if not tensors:
        raise IntegrityError(f"{directory}: holds no tensors; make the checkpoint again")
    known = tensors.keys() & base.keys()  # empty if transformers renames the weights on loading
    for name in sorted(known):
        if tensors[name].shape != base[name].shape:
            own, theirs = list(tensors[name].shape), list(base[name].shape)
            raise RaytuneError(f"{directory}: {name} is {own}, in {base_model} {theirs}; it is of another base")
    if known and (others := sorted(tensors.keys() - known - {_TIED})):
        raise RaytuneError(f"{directory}: {base_model} has no {others[0]}; it is of another base")
