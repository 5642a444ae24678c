"""A trial's checkpoint: a PEFT adapter beside what the optimizer needs, whole or not there.

step-000010/  adapter_model.safetensors adapter_config.json   as PEFT reads them
              optimizer.safetensors trainer.json              moments; step, losses and the report
              manifest.json                                   sha256 of each of them
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.errors import IntegrityError
from raytune_ft.paths import read_json, remove_directory, rename_into_place, sha256_file, write_json
from raytune_ft.training.weights.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

if TYPE_CHECKING:
    import torch

MANIFEST = "manifest.json"
OPTIMIZER, TRAINER = "optimizer.safetensors", "trainer.json"
SCHEMA = 1
SPARE_BYTES = 1 << 20  # for the small files and the directory


@dataclass(frozen=True)
class Checkpoint:
    """What a trial needs to go on as if it had never stopped; its place in the data follows from the step.

    Attributes:
        weights: PEFT's name -> float32 tensor.
        optimizer: As `AdapterOptimizer.state` gives it.
        config: PEFT's `adapter_config.json`.
        trainer: Step, seconds, tokens and the report made there.
    """

    weights: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    config: dict[str, Any]
    trainer: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.trainer["step"])


def write_checkpoint(target: Path, checkpoint: Checkpoint) -> None:
    """Writes `target` aside and renames it; what was there before is replaced.

    Raises:
        OSError: There is no room, with the path and the bytes needed; nothing is left behind.
    """
    from safetensors.torch import save

    target.parent.mkdir(parents=True, exist_ok=True)
    files = {
        ADAPTER_WEIGHTS: save(dict(checkpoint.weights), metadata={"format": "pt"}),
        ADAPTER_CONFIG: _json(checkpoint.config),
        OPTIMIZER: save(dict(checkpoint.optimizer)),
        TRAINER: _json(checkpoint.trainer),
    }
    needed = sum(len(content) for content in files.values()) + SPARE_BYTES
    aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        if shutil.disk_usage(aside).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for name, content in files.items():
            with (aside / name).open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        write_json(aside / MANIFEST, {"schema": SCHEMA, "files": {name: sha256_file(aside / name) for name in files}})
        aside.chmod(0o755)
        if target.exists():
            remove_directory(target)
        rename_into_place(aside, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"{target}: no room for a checkpoint of {needed} bytes; free some, or set output_dir elsewhere"
            raise OSError(error.errno, what) from error
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_checkpoint(directory: Path) -> Checkpoint:
    """Reads what is whole.

    Raises:
        IntegrityError: A file is missing, or is not what the manifest says, or the optimizer was taken out.
    """
    from safetensors.torch import load

    try:
        check_whole(directory)
        if OPTIMIZER not in read_json(directory / MANIFEST)["files"]:
            raise IntegrityError(f"{directory}: without its optimizer since its trial ended; copy one that trains")
        return Checkpoint(
            weights=load((directory / ADAPTER_WEIGHTS).read_bytes()),
            optimizer=load((directory / OPTIMIZER).read_bytes()),
            config=read_json(directory / ADAPTER_CONFIG),
            trainer=read_json(directory / TRAINER),
        )
    except FileNotFoundError as error:  # a trial removes its older checkpoints, whoever reads them
        raise IntegrityError(f"{directory}: removed while it was read; use a later checkpoint") from error


def check_whole(directory: Path) -> None:
    """Compares each file's sha256 with the manifest's. Raises IntegrityError, naming the file."""
    if not (directory / MANIFEST).is_file():
        raise IntegrityError(f"{directory}: has no {MANIFEST}; it was never finished, use the checkpoint before")
    for name, sha256 in read_json(directory / MANIFEST)["files"].items():
        path = directory / name
        if not path.is_file():
            raise IntegrityError(f"{path}: missing; use the checkpoint before")
        if sha256_file(path) != sha256:
            raise IntegrityError(f"{path}: not the file that {MANIFEST} describes; use the checkpoint before")


def last_whole(checkpoints: Path) -> Checkpoint | None:
    """The latest checkpoint of a trial that is whole; damaged ones are passed over."""
    for directory in sorted(checkpoints.glob("step-*"), reverse=True) if checkpoints.is_dir() else ():
        try:
            return read_checkpoint(directory)
        except IntegrityError:
            continue
    return None


@dataclass(frozen=True)
class Beginning:
    """Where a trial goes on.

    Attributes:
        checkpoint: What it takes over.
        own: It is the trial's own, not another one's.
    """

    checkpoint: Checkpoint
    own: bool


def find_beginning(checkpoints: Path, copy_from: Path | None) -> Beginning | None:
    """A trial's last whole checkpoint; before it has one, another trial's, or the last whole one beside that.

    Args:
        checkpoints: The trial's.
        copy_from: Another trial's checkpoint, which that trial may have replaced meanwhile.

    Raises:
        IntegrityError: Neither `copy_from` nor another checkpoint beside it is whole.
    """
    if (last := last_whole(checkpoints)) is not None:
        return Beginning(last, own=True)
    if copy_from is None:
        return None
    try:
        return Beginning(read_checkpoint(copy_from), own=False)
    except IntegrityError:
        if (last := last_whole(copy_from.parent)) is None:
            raise
        return Beginning(last, own=False)


def keep_only(checkpoints: Path, names: set[str]) -> None:
    """Removes the trial's other checkpoints, and what a killed writer left."""
    for directory in checkpoints.iterdir():
        if directory.name not in names and directory.name.lstrip(".").startswith("step-"):
            remove_directory(directory)


def drop_optimizer(directory: Path) -> None:
    """Takes the optimizer out of a lane's checkpoint; what is left are whole weights, which nothing can go on from.

    Raises:
        IntegrityError: Its manifest is damaged.
    """
    if not (directory / MANIFEST).is_file():
        return
    manifest = read_json(directory / MANIFEST)
    if OPTIMIZER in manifest["files"]:  # first, so that no crash leaves a file missing that it names
        left = {name: sha256 for name, sha256 in manifest["files"].items() if name != OPTIMIZER}
        write_json(directory / MANIFEST, {**manifest, "files": left})
    (directory / OPTIMIZER).unlink(missing_ok=True)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
