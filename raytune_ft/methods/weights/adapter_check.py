"""Checks that a directory holds a complete and safe adapter which fits the base and which vLLM can load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_ft.config.methods.facts import Artefact
from raytune_ft.config.methods.low_rank import MAX_SERVED_LORA_RANK
from raytune_ft.data.safetensors_header import TensorInfo, read_header, read_headers
from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.methods.weights.base_weights import base_directory, base_id, weight_files
from raytune_ft.methods.weights.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from raytune_ft.paths import read_json

_PREFIX = "base_model.model."
# Settings that vLLM 0.29 refuses (lora/peft_helper.py), or ignores, so that its answers would be wrong.
_UNSERVED = (
    "use_dora", "lora_bias", "modules_to_save", "rank_pattern", "alpha_pattern", "trainable_token_indices",
    "layer_replication", "target_parameters", "use_qalora", "alora_invocation_tokens", "arrow_config",
)  # fmt: skip
# The other values of init_lora_weights (PiSSA, OLoRA, LoftQ, CorDA, ...) change the base's weights too.
_BASE_KEEPING_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
# PEFT can recompute the change that these make from the base alone; the others depend on random numbers or on data.
_FOUND_AGAIN = ("pissa", "olora")
_UNMERGED = ("layer_replication", "alora_invocation_tokens", "arrow_config")


@dataclass(frozen=True)
class AdapterFacts:
    """Facts about a trained adapter or model that serving needs.

    Attributes:
        lora_rank: PEFT's `r`; 0 for a full fine-tune, which has no adapter.
        config: The contents of adapter_config.json.
        unserved: The reason why vLLM can't load it, or None if it can.
        artefact: Whether it is an adapter, or a whole model.
    """

    lora_rank: int
    config: dict[str, Any]
    unserved: str | None = None
    artefact: Artefact = "adapter"

    @property
    def full(self) -> bool:
        return self.artefact == "model"


def check_adapter(directory: Path, base_model: str) -> AdapterFacts:
    """Checks that the adapter in `directory` can be served on `base_model`; reads only JSON and safetensors headers.

    Raises:
        IntegrityError: A file is missing, truncated or not safetensors.
        RaytuneError: The adapter has another base, or uses something that vLLM can't load.
    """
    config = _read_config(directory)
    where = directory / ADAPTER_CONFIG
    rank = _check_config(where, config)
    _check_base_name(where, config, base_model)
    tensors = read_header(directory / ADAPTER_WEIGHTS)
    _check_tensors(directory / ADAPTER_WEIGHTS, tensors, rank, base_model, bool(config.get("fan_in_fan_out")))
    return AdapterFacts(rank, config)


def check_mergeable(directory: Path, base_model: str) -> AdapterFacts:
    """Checks that PEFT can merge the adapter in `directory` into `base_model`; the result says if vLLM could load it.

    Raises:
        IntegrityError: A file is missing, truncated or not safetensors.
        RaytuneError: The adapter has another base, or can't be merged.
    """
    config = _read_config(directory)
    where = directory / ADAPTER_CONFIG
    _check_base_name(where, config, base_model)
    if not read_header(directory / ADAPTER_WEIGHTS):
        raise IntegrityError(f"{directory / ADAPTER_WEIGHTS}: holds no tensors; make the checkpoint again")
    if used := [key for key in _UNMERGED if config.get(key)]:
        raise RaytuneError(f"{where}: {used[0]} {config[used[0]]!r} can't be merged into the base; train without it")
    if (start := config.get("init_lora_weights")) not in (*_BASE_KEEPING_INITS, *_FOUND_AGAIN):
        what = f"init_lora_weights {start!r} changed the base's weights in a way that is not found again"
        raise RaytuneError(f"{where}: {what}; convert it to LoRA when it is saved")
    rank = config["r"]
    if type(rank) is not int or rank < 1:
        raise RaytuneError(f"{where}: r {rank!r} is no rank; save the adapter again")
    try:
        _check_config(where, config)
    except RaytuneError as error:
        return AdapterFacts(rank, config, str(error).removeprefix(f"{where}: ").partition(";")[0])
    return check_adapter(directory, base_model)


def _read_config(directory: Path) -> dict[str, Any]:
    """Reads adapter_config.json.

    Raises:
        IntegrityError: A file is missing, or the config lacks fields.
        RaytuneError: The adapter is not a LoRA.
    """
    if not (directory / ADAPTER_WEIGHTS).is_file():
        pickles = [path.name for path in directory.glob("adapter_model.*") if path.suffix in (".bin", ".pt", ".pth")]
        what = f"only {pickles[0]}, a pickle, which can run code" if pickles else f"no {ADAPTER_WEIGHTS}"
        raise IntegrityError(f"{directory}: holds {what}; save the adapter as safetensors")
    if not (directory / ADAPTER_CONFIG).is_file():
        raise IntegrityError(f"{directory}: holds no {ADAPTER_CONFIG}; save it with PEFT's save_pretrained")
    where, config = directory / ADAPTER_CONFIG, read_json(directory / ADAPTER_CONFIG)
    if not isinstance(config, dict) or not {"peft_type", "r", "lora_alpha", "target_modules"} <= config.keys():
        raise IntegrityError(f"{where}: lacks peft_type, r, lora_alpha or target_modules; save the adapter again")
    if config["peft_type"] != "LORA":
        raise RaytuneError(f"{where}: peft_type {config['peft_type']!r} can't be served; only LORA can")
    return config


def _check_config(where: Path, config: Mapping[str, Any]) -> int:
    rank = config["r"]
    if type(rank) is not int or not 1 <= rank <= MAX_SERVED_LORA_RANK:
        raise RaytuneError(f"{where}: r {rank!r} can't be served; vLLM takes 1 to {MAX_SERVED_LORA_RANK}")
    if config.get("bias", "none") != "none":
        raise RaytuneError(f"{where}: bias {config['bias']!r} can't be served; train with bias none")
    if used := [key for key in _UNSERVED if config.get(key)]:
        raise RaytuneError(f"{where}: {used[0]} {config[used[0]]!r} can't be served by vLLM; train without it")
    if config.get("init_lora_weights") not in _BASE_KEEPING_INITS:
        raise RaytuneError(
            f"{where}: init_lora_weights {config['init_lora_weights']!r} changed the base's weights; convert it first"
        )
    return rank


def _check_base_name(where: Path, config: Mapping[str, Any], base_model: str) -> None:
    named = config.get("base_model_name_or_path")
    if named and base_id(str(named)) != base_id(base_model):
        raise RaytuneError(
            f"{where}: the adapter's base is {named!r}, not {base_model!r}; promote it with its own base"
        )


def _check_tensors(
    where: Path, tensors: Mapping[str, TensorInfo], rank: int, base_model: str, transposed: bool
) -> None:
    """Checks that each pair (A: [rank, in], B: [out, rank]) fits the base's weight [out, in] of that module."""
    base = read_headers(weight_files(base_directory(base_model)))
    modules: dict[str, dict[str, TensorInfo]] = {}
    for name, info in tensors.items():
        module, _, side = name.removesuffix(".weight").rpartition(".")
        if side not in ("lora_A", "lora_B") or len(info.shape) != 2:
            raise RaytuneError(
                f"{where}: tensor {name!r} can't be served by vLLM; only lora_A and lora_B of linears can"
            )
        modules.setdefault(module.removeprefix(_PREFIX), {})[side] = info
    if not modules:
        raise IntegrityError(f"{where}: holds no tensors; make the checkpoint again")
    known = [module for module in modules if f"{module}.weight" in base]
    for module, sides in modules.items():
        if sides.keys() != {"lora_A", "lora_B"}:
            raise IntegrityError(f"{where}: {module} has only one half of its pair; make the checkpoint again")
        a, b = sides["lora_A"].shape, sides["lora_B"].shape
        if a[0] != rank or b[1] != rank:
            raise IntegrityError(
                f"{where}: {module} has rank {a[0]}, {ADAPTER_CONFIG} says {rank}; save the adapter again"
            )
        weight = base.get(f"{module}.weight")
        if weight is None:
            # If transformers renames weights on loading, no name is known; if only some are unknown, the base differs.
            if known:
                raise RaytuneError(f"{where}: {base_model} has no {module}; the adapter is of another base")
            continue
        fits = weight.shape[::-1] if transposed else weight.shape
        if weight.dtype != "U8" and fits != (b[0], a[1]):  # U8: the shape of packed 4-bit weights differs
            raise RaytuneError(
                f"{where}: {module} is [{b[0]}, {a[1]}], in {base_model} {list(fits)}; the adapter is of another base"
            )
