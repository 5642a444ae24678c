"""Checks whether the base model can be used, without loading it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.filled_in import NONE
from raytune_ft.config.methods.choice import METHODS
from raytune_ft.errors import InputError

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
TOKENIZER_FILES = (
    *_VOCABULARIES,
    *_TEMPLATES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_TIMEOUT_S = 5.0
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def check_base_model(experiment: Experiment) -> None:
    """Checks that the model has a config, a tokenizer, safe weights and, for conversations, a chat template.

    Raises:
        InputError: One of them is missing, the model needs remote code, its weights can't be trained by the method, or
            the model is not found.
    """
    name = experiment.base_model
    if not experiment.trains_on_rows:
        return
    if experiment.trust_remote_code:
        message = (
            "trust_remote_code is true: Python code that comes with %s will run on this machine and on the workers"
        )
        logging.getLogger(__name__).warning(message, name)
    if is_path(name):
        directory = local_files(name)
        files: Collection[str] = {path.name for path in directory.iterdir()}
    else:
        directory, files = _hub_files(name)
    config = _config(name, directory)
    tokenizer_config = _read(directory, "tokenizer_config.json") or {}
    if not experiment.trust_remote_code:
        for file, content in (("config.json", config), ("tokenizer_config.json", tokenizer_config)):
            if "auto_map" in content:
                remedy = (
                    "read that code and set trust_remote_code: true, or remove auto_map if transformers has the model"
                )
                raise InputError("base_model", f"{name} asks to run its own Python code (auto_map in {file})", remedy)
    refusing = [method for method in experiment.methods if not METHODS[method].takes_quantized]
    if config.get("quantization_config") and refusing:
        remedy = "use method: {type: lora}, or the model before it was quantized"
        raise InputError("method.type", f"{refusing[0]} can't train on {name}, which is quantized", remedy)
    if not any(file in files for file in _VOCABULARIES):
        raise InputError(
            "base_model", f"{name} has no tokenizer", f"copy {_VOCABULARIES[0]} and its config beside the weights"
        )
    has_template = "chat_template" in tokenizer_config or any(file in files for file in _TEMPLATES)
    form = experiment.data.format
    if form.chat and not has_template:
        remedy = f"use an instruct model, add chat_template.jinja, or use format: {form.plain}"
        raise InputError("base_model", f"{name} has no chat template, which format {form} needs", remedy)
    if not any(file.endswith(".safetensors") for file in files):
        pickles = sorted(file for file in files if file.endswith(_PICKLES))
        what = f"only pickled weights ({pickles[0]})" if pickles else "no weights (*.safetensors)"
        raise InputError(
            "base_model", f"{name} has {what}", "save the model with save_pretrained, which writes safetensors"
        )


def model_config(base_model: str) -> dict[str, Any]:
    """Returns the model's config.json; for a hub id it is downloaded without the weights. Of no model it is empty.

    Raises:
        InputError: The file is missing or broken, or the hub can't be reached.
    """
    return {} if base_model == NONE else _config(base_model, local_files(base_model))


def is_path(base_model: str) -> bool:
    """Tells whether `base_model` names a directory rather than a model on the hub."""
    looks_like_one = base_model.startswith((".", "/", "~", "assets/")) or _HUB_ID.fullmatch(base_model) is None
    return looks_like_one or Path(base_model).is_dir()


def local_files(base_model: str) -> Path:
    """Returns the directory of the model's config and tokenizer; for a hub id they are downloaded without the weights.

    Raises:
        InputError: There is no such directory, or the hub can't be reached.
    """
    if not is_path(base_model):
        return _hub_files(base_model)[0]
    directory = Path(base_model).expanduser()
    if not directory.is_dir():
        remedy = (
            "run `raytune-ft assets fetch`" if directory.parts[:1] == ("assets",) else "give a directory or a hub id"
        )
        what = "is a file, not a directory" if directory.exists() else "no such directory"
        raise InputError("base_model", f"{base_model}: {what}", remedy)
    return directory


def _config(base_model: str, directory: Path) -> dict[str, Any]:
    config = _read(directory, "config.json")
    if config is None:
        raise InputError("base_model", f"{base_model} has no config.json", "give a Hugging Face model directory")
    return config


@cache  # one command calls it several times, and each call may wait for the network
def _hub_files(base_model: str) -> tuple[Path, Collection[str]]:
    """Returns the directory of a hub model's small files and the names of all its files, from the cache if possible."""
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache

    cached = try_to_load_from_cache(base_model, "config.json")
    if isinstance(cached, str):
        directory = Path(cached).parent
        names = {path.name for path in directory.iterdir()}
        if any(name.endswith(".safetensors") for name in names) and any(name in names for name in _VOCABULARIES):
            return directory, names
    try:
        names = {file.rfilename for file in HfApi().model_info(base_model, timeout=_HUB_TIMEOUT_S).siblings or ()}
        wanted = ["config.json", "*.py", *TOKENIZER_FILES]
        return Path(snapshot_download(base_model, allow_patterns=wanted, etag_timeout=_HUB_TIMEOUT_S)), names
    except Exception as error:  # the client's network errors have no common type across its versions
        what = f"{base_model!r} is neither a directory nor reachable on the hub ({type(error).__name__})"
        raise InputError("base_model", what, "give a path, or run `raytune-ft assets fetch`") from error


def _read(directory: Path, name: str) -> dict[str, Any] | None:
    path = directory / name
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError("base_model", f"{path} is not JSON ({error})", "copy the model's files again") from None
    if not isinstance(content, dict):
        raise InputError("base_model", f"{path} is not a JSON object", "copy the model's files again")
    return content
