"""What a trial leaves as weights: a PEFT adapter, or a whole model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.errors import IntegrityError
from raytune_ft.paths import sha256_file
from raytune_ft.training.weights.adapter_size import MIB
from raytune_ft.training.weights.base_model import load_base
from raytune_ft.training.weights.base_weights import joint_sha256
from raytune_ft.training.weights.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS


def is_adapter(directory: Path) -> bool:
    """Whether the files there are PEFT's, and not a whole model's."""
    return (directory / ADAPTER_CONFIG).is_file() or (directory / ADAPTER_WEIGHTS).is_file()


def tuned_files(directory: Path) -> list[Path]:
    """The files of the weights, sorted by name; those that are there."""
    found = directory.glob(ADAPTER_WEIGHTS if is_adapter(directory) else "model*.safetensors")
    return sorted(path for path in found if path.is_file())


def tuned_mib(directory: Path) -> float | None:
    """MiB of the weights that were left there, if any were."""
    sizes = [path.stat().st_size for path in tuned_files(directory)]
    return round(sum(sizes) / MIB, 6) if sizes else None


def tuned_sha256(directory: Path) -> str:
    """sha256 of the weights' file; of several, their `joint_sha256`.

    Raises:
        IntegrityError: There are none.
    """
    files = tuned_files(directory)
    if not files:
        raise IntegrityError(f"{directory}: holds no weights as safetensors; make the checkpoint again")
    return sha256_file(files[0]) if len(files) == 1 else joint_sha256(files)


def load_tuned(experiment: Experiment, directory: Path) -> Any:
    """The base with the adapter in `directory` as PEFT's model, or the whole model there; in main memory, and in the
    type that the experiment computes in."""
    if not is_adapter(directory):
        return load_base(experiment.model_copy(update={"base_model": str(directory)}))
    from peft import PeftModel

    return PeftModel.from_pretrained(load_base(experiment), directory, use_safetensors=True)
