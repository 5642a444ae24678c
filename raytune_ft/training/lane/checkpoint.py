"""Writes and reads a lane trial's checkpoint: a PEFT adapter and the optimizer's state, written atomically.

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
from raytune_ft.methods.weights.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from raytune_ft.paths import read_json, remove_directory, rename_into_place, sha256_file, write_json

if TYPE_CHECKING:
    import torch

MANIFEST = "manifest.json"
OPTIMIZER, TRAINER = "optimizer.safetensors", "trainer.json"
SCHEMA = 1
SPARE_BYTES = 1 << 20  # for the small files and the directory


@dataclass(frozen=True)
class Checkpoint:
    """The state with which a trial goes on as if it had never stopped; its position in the data follows from the step.

    Attributes:
        weights: PEFT's name -> float32 tensor.
        optimizer: The result of `AdapterOptimizer.state`.
        config: Contents of PEFT's `adapter_config.json`.
        trainer: Step, seconds, tokens, loss scale, and the report at this step.
    """

    weights: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    config: dict[str, Any]
    trainer: dict[str, Any]

    @property
    def step(self) -> int:
        """Number of optimizer steps done."""
        return int(self.trainer["step"])


def write_checkpoint(target: Path, checkpoint: Checkpoint) -> None:
    """Writes the checkpoint to a temporary directory and renames that to `target`, which it replaces.

    Raises:
        OSError: The disk is full; the message has the path and the bytes needed, and nothing is left behind.
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
    """Reads a complete checkpoint.

    Raises:
        IntegrityError: A file is missing or does not match the manifest, or the optimizer's state was removed.
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
    except FileNotFoundError as error:  # a trial removes its older checkpoints even while others read them
        raise IntegrityError(f"{directory}: removed while it was read; use a later checkpoint") from error


def check_whole(directory: Path) -> None:
    """Compares each file's sha256 with the manifest's; raises an IntegrityError that names the file."""
    if not (directory / MANIFEST).is_file():
        raise IntegrityError(f"{directory}: has no {MANIFEST}; it was never finished, use the checkpoint before")
    for name, sha256 in read_json(directory / MANIFEST)["files"].items():
        path = directory / name
        if not path.is_file():
            raise IntegrityError(f"{path}: missing; use the checkpoint before")
        if sha256_file(path) != sha256:
            raise IntegrityError(f"{path}: not the file that {MANIFEST} describes; use the checkpoint before")


def last_whole(checkpoints: Path) -> Checkpoint | None:
    """Returns the latest complete checkpoint in a trial's directory, or None; skips damaged ones."""
    for directory in sorted(checkpoints.glob("step-*"), reverse=True) if checkpoints.is_dir() else ():
        try:
            return read_checkpoint(directory)
        except IntegrityError:
            continue
    return None


@dataclass(frozen=True)
class Beginning:
    """The checkpoint that a trial goes on from.

    Attributes:
        checkpoint: The checkpoint.
        own: Whether it is the trial's own rather than another trial's.
    """

    checkpoint: Checkpoint
    own: bool


def find_beginning(checkpoints: Path, copy_from: Path | None) -> Beginning | None:
    """Finds the checkpoint that a trial goes on from.

    That is its own last complete checkpoint. Without one it is `copy_from`, or, if that is damaged or gone, the last
    complete checkpoint in the same directory.

    Args:
        checkpoints: Directory of the trial's checkpoints.
        copy_from: Another trial's checkpoint to copy, which that trial may have replaced meanwhile.

    Raises:
        IntegrityError: Neither `copy_from` nor another checkpoint in its directory is complete.
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
    """Removes the trial's other checkpoints, and leftovers of a killed writer."""
    for directory in checkpoints.iterdir():
        if directory.name not in names and directory.name.lstrip(".").startswith("step-"):
            remove_directory(directory)


def drop_optimizer(directory: Path) -> None:
    """Removes the optimizer's state from a lane's checkpoint; its weights stay usable, but no trial can resume from it.

    Raises:
        IntegrityError: The manifest is damaged.
    """
    if not (directory / MANIFEST).is_file():
        return
    manifest = read_json(directory / MANIFEST)
    if OPTIMIZER in manifest["files"]:  # before the file, so that a crash leaves no missing file in it
        left = {name: sha256 for name, sha256 in manifest["files"].items() if name != OPTIMIZER}
        write_json(directory / MANIFEST, {**manifest, "files": left})
    (directory / OPTIMIZER).unlink(missing_ok=True)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
