"""The weights that a trial produces: a PEFT adapter, or a complete model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.errors import IntegrityError
from raytune_ft.methods.weights.adapter_size import MIB
from raytune_ft.methods.weights.base_model import load_base
from raytune_ft.methods.weights.base_weights import joint_sha256
from raytune_ft.methods.weights.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from raytune_ft.paths import sha256_file


def is_adapter(directory: Path) -> bool:
    """Whether the files there are PEFT's, and not a whole model's."""
    return (directory / ADAPTER_CONFIG).is_file() or (directory / ADAPTER_WEIGHTS).is_file()


def tuned_files(directory: Path) -> list[Path]:
    """The files of the weights, sorted by name; those that are there."""
    found = directory.glob(ADAPTER_WEIGHTS if is_adapter(directory) else "model*.safetensors")
    return sorted(path for path in found if path.is_file())


def tuned_mib(directory: Path) -> float | None:
    """Returns the size of the weights in MiB, or None if there are none."""
    sizes = [path.stat().st_size for path in tuned_files(directory)]
    return round(sum(sizes) / MIB, 6) if sizes else None


def tuned_sha256(directory: Path) -> str:
    """Returns the sha256 of the weight file, or the `joint_sha256` of several.

    Raises:
        IntegrityError: There are no weight files.
    """
    files = tuned_files(directory)
    if not files:
        raise IntegrityError(f"{directory}: holds no weights as safetensors; make the checkpoint again")
    return sha256_file(files[0]) if len(files) == 1 else joint_sha256(files)


def load_tuned(experiment: Experiment, directory: Path) -> Any:
    """Loads the adapter in `directory` on its base as a PEFT model, or the complete model there.

    It is in main memory, in the number type that the experiment computes in.
    """
    if not is_adapter(directory):
        return load_base(experiment.model_copy(update={"base_model": str(directory)}))
    return with_adapter(load_base(experiment), directory)


def with_adapter(model: Any, directory: Path) -> Any:
    """Adds the adapter in `directory` to a loaded base; returns PEFT's model."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, directory, use_safetensors=True)
