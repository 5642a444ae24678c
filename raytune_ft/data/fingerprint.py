"""The data fingerprint: one hash of everything that decides the tokenised rows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.data.base_model import TOKENIZER_FILES
from raytune_ft.data.checks import split_sources
from raytune_ft.errors import InputError
from raytune_ft.paths import sha256_file

RECIPE = 2  # increase it when the same inputs are tokenised in another way


def data_fingerprint(experiment: Experiment, tokenizer_directory: Path) -> str:
    """Returns the hex sha256 of the data files' contents, the `data` settings, the seed and the tokenizer's files.

    The chat template is one of the tokenizer's files.

    Raises:
        InputError: A data file is missing.
    """
    config = experiment.data
    inputs = {
        "recipe": RECIPE,
        "sources": source_hashes(experiment),
        "settings": config.model_dump(mode="json", exclude={"train", "test", "validation"}),
        "validation": config.validation if isinstance(config.validation, float) else None,
        **experiment.objective.decides_tokens(),
        "seed": experiment.seed,
        "tokenizer": {
            name: sha256_file(tokenizer_directory / name)
            for name in TOKENIZER_FILES
            if (tokenizer_directory / name).is_file()
        },
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode("utf-8")).hexdigest()


def source_hashes(experiment: Experiment) -> dict[str, str]:
    """Returns the hex sha256 of each split's file."""
    hashes = {}
    for name, path in split_sources(experiment.data).items():
        try:
            hashes[name] = sha256_file(path)
        except OSError as error:
            raise InputError(f"data.{name}", f"{path}: {error.strerror}", "give a JSONL file") from None
    return hashes
