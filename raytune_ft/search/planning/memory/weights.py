"""Estimates a worker's memory for weights and optimizer, from the shapes in the base model's files alone."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.methods.choice import METHODS, Method
from raytune_ft.config.number_type import NumberType
from raytune_ft.config.possible import possible
from raytune_ft.config.training import DeepSpeed, Isolated, Lane
from raytune_ft.data.base_model import local_files, model_config
from raytune_ft.data.safetensors_header import read_headers
from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.methods.rooms import ROOMS
from raytune_ft.objectives.rooms import room
from raytune_ft.paths import read_json

ADAM_BYTES = 8  # two float32 moments of each weight
OWN_COPY_BYTES = 4  # lanes and DeepSpeed step on a float32 copy of the weights, sharded like the moments
_HEADERS: dict[NumberType, str] = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
"""Number types by their names in the headers of safetensors files."""
_WIDTHS = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2}  # bytes of an element; others take one
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True)
class WorkerMemory:
    """Memory of one worker that trains one trial of the space's largest configuration, in bytes, without activations.

    Attributes:
        base_bytes: The base model's weights.
        base_shared: Whether the lanes on a node share one copy of them.
        adapter_parameters: Number of weights that are trained; None where the files do not tell.
        adapter_bytes: The adapter, with the 16-bit copy that lanes multiply with; in full fine-tuning, a 16-bit copy of
            the weights alone.
        gradient_bytes: The gradients; a lane's workers do not shard them.
        optimizer_bytes: AdamW's state, and the copy of the weights that it updates.
        optimizer_on_host: Whether the optimizer is offloaded to the host.
        full: Whether the model's own weights are trained, or may be, instead of an adapter.
        weight_bytes: Bytes of a trained weight.
    """

    base_bytes: int
    base_shared: bool
    adapter_parameters: int | None
    adapter_bytes: int | None
    gradient_bytes: int | None
    optimizer_bytes: int | None
    optimizer_on_host: bool
    full: bool = False
    weight_bytes: int = 4


def worker_memory(experiment: Experiment, runner: Lane | Isolated) -> WorkerMemory | None:
    """Reads the headers of the base model's files; returns None where its weights are not here.

    Raises:
        InputError: A file is not whole.
    """
    if not experiment.trains_on_rows:
        return None
    config = model_config(experiment.base_model)
    files = _weight_files(local_files(experiment.base_model))
    if not files:
        return None
    try:
        tensors = read_headers(files)
    except IntegrityError as error:
        raise InputError("base_model", str(error), "copy the model's files again") from None
    if config.get("tie_word_embeddings") and "lm_head.weight" in tensors and len(tensors) > 1:
        del tensors["lm_head.weight"]
    quantized = bool(config.get("quantization_config"))
    loaded_as = _HEADERS[experiment.train.number_type]
    # Where the base is quantized, or has experts in one tensor, the files' shapes are not the model's.
    counted = not quantized and not any(config.get(key) for key in _EXPERTS)
    methods = [(ROOMS[each.type], each) for each in _methods(experiment)]
    most = max(functions.parameters(each, tensors) for functions, each in methods)
    if "model" in experiment.artefacts:
        return _of_a_whole_model(experiment, most)
    if quantized:
        base = sum(math.prod(info.shape) * _WIDTHS.get(info.dtype, 1) for info in tensors.values())
    else:
        base = max(functions.base_bytes(tensors, _WIDTHS[loaded_as]) for functions, _ in methods)
    strategy, workers = experiment.resources.strategy, experiment.resources.workers
    zero = strategy.zero_stage if isinstance(strategy, DeepSpeed) else 0
    weights = most if counted else None
    wide = max(METHODS[method].weight_bytes for method in experiment.methods)
    lane = isinstance(runner, Lane)
    mapped = isinstance(runner, Lane) and runner.share_base and not experiment.resources.gpus_per_worker
    half = experiment.train.number_type != "float32"
    copy = 2 if lane and half else 0
    state = 2 * wide + (OWN_COPY_BYTES if lane or zero else 0)
    return WorkerMemory(
        base_bytes=-(-base // workers) if zero == 3 else base,
        base_shared=mapped and {info.dtype for info in tensors.values()} == {loaded_as},
        adapter_parameters=weights,
        adapter_bytes=None if weights is None else (wide + copy) * weights,
        gradient_bytes=None if weights is None else -(-wide * weights // (workers if zero >= 2 and not lane else 1)),
        optimizer_bytes=None if weights is None else -(-state * weights // (workers if zero else 1)),
        optimizer_on_host=isinstance(strategy, DeepSpeed) and strategy.offload_optimizer,
        weight_bytes=wide,
    )


def _methods(experiment: Experiment) -> list[Method]:
    """Returns the methods that trials may have, with each combination of the settings that are searched."""
    found: list[Method] = []
    for name in experiment.methods:
        model = METHODS[name]
        own = experiment.method.model_dump() if experiment.method.type == name else {}
        searched = {
            field: [value for value in possible(experiment, f"method.{field}") if value is not None]
            for field in model.model_fields
            if field != "type" and experiment.search and f"method.{field}" in experiment.search.space.parameters
        }
        for values in itertools.product(*searched.values()):
            found.append(model.model_validate({**own, **dict(zip(searched, values, strict=True))}))
    return found


def _of_a_whole_model(experiment: Experiment, weights: int) -> WorkerMemory:
    """Returns the memory of an isolated worker that trains a whole model.

    With DDP the weights are float32 and cast for each product, and its buckets hold a second copy of the gradients;
    DeepSpeed updates a copy of the weights. Objectives with a reference hold the base a second time.

    Args:
        experiment: The study's experiment.
        weights: Number of the model's weights.
    """
    strategy, workers = experiment.resources.strategy, experiment.resources.workers
    zero = strategy.zero_stage if isinstance(strategy, DeepSpeed) else 0
    half = experiment.train.number_type != "float32"
    held = (2 if half and zero else 4) * weights
    gradients = 2 * held if not zero and workers > 1 else held
    models = 1 + room(experiment.objective).further_models("model")
    return WorkerMemory(
        base_bytes=models * (-(-held // workers) if zero == 3 else held),
        base_shared=False,
        full=True,
        adapter_parameters=weights,
        adapter_bytes=2 * weights if half and not zero else 0,
        gradient_bytes=-(-gradients // (workers if zero >= 2 else 1)),
        optimizer_bytes=-(-(ADAM_BYTES + (OWN_COPY_BYTES if zero else 0)) * weights // (workers if zero else 1)),
        optimizer_on_host=isinstance(strategy, DeepSpeed) and strategy.offload_optimizer,
    )


def _weight_files(directory: Path) -> list[Path]:
    """Returns the weight files that transformers loads: the one, those of the index, or all that are there."""
    whole, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        shards = [directory / name for name in sorted(set(read_json(index)["weight_map"].values()))]
        return shards if all(shard.is_file() for shard in shards) else []
    return sorted(path for path in directory.glob("*.safetensors") if path.is_file())
