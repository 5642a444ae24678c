"""Stages an adapter for the registry: copies it to a private directory, which is later renamed into place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from raytune_ft.errors import IntegrityError
from raytune_ft.methods.weights.adapter_check import AdapterFacts, check_adapter
from raytune_ft.methods.weights.base_weights import base_id
from raytune_ft.methods.weights.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from raytune_ft.paths import rename_into_place, sha256_file, write_json
from raytune_ft.registry.store import Registry

STAGING = ".incoming"
_LOCK_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class StagedAdapter:
    """The files that will be served, in a staging directory that the registry does not list.

    Attributes:
        path: The directory, which can be loaded like that of a version.
        facts: Facts about the adapter.
        files: File name -> hex sha256 at the time of the copy.
        merged: Whether the files are a complete model.
    """

    path: Path
    facts: AdapterFacts
    files: dict[str, str]
    merged: bool = False

    def check_unchanged(self) -> None:
        """Raises IntegrityError if a file has changed since it was copied."""
        for name, expected in self.files.items():
            if sha256_file(self.path / name) != expected:
                raise IntegrityError(f"{self.path / name}: changed while it was examined; promote the run again")


@contextmanager
def staged(registry: Registry, adapter: str, source: Path, base_model: str) -> Iterator[StagedAdapter]:
    """Copies the adapter in `source` to a staging directory, which is removed after the block unless it was renamed.

    Only the weights and PEFT's config are copied. Leftovers of killed processes are removed too.

    Raises:
        IntegrityError: A file of the adapter is missing or broken.
        RaytuneError: The adapter has another base, or vLLM couldn't serve it.
    """
    registry.directory(adapter)  # refuses an invalid name before anything is read or written
    facts = check_adapter(source, base_model)
    with _aside(registry, adapter) as path:
        _copy(source / ADAPTER_WEIGHTS, path / ADAPTER_WEIGHTS)
        # The path on the training machine is useless elsewhere and must not be published.
        write_json(path / ADAPTER_CONFIG, {**facts.config, "base_model_name_or_path": _public_name(base_model)})
        yield StagedAdapter(path, facts, {name: sha256_file(path / name) for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG)})


@contextmanager
def staged_model(
    registry: Registry, adapter: str, facts: AdapterFacts, write: Callable[[Path], object]
) -> Iterator[StagedAdapter]:
    """Stages a complete model, which `write` writes into the directory that it is given; otherwise as `staged`."""
    with _aside(registry, adapter) as path:
        write(path)
        files = {}
        for entry in sorted(path.iterdir()):
            entry.chmod(0o644)  # safetensors writes files that only their owner can read
            _flush(entry)
            files[entry.name] = sha256_file(entry)
        yield StagedAdapter(path, facts, files, merged=True)


@contextmanager
def _aside(registry: Registry, adapter: str) -> Iterator[Path]:
    """Creates and locks a staging directory, which is removed after the block unless it was renamed."""
    registry.directory(adapter)
    room = registry.root / STAGING
    if room.is_symlink():
        raise IntegrityError(f"{room}: is a link; adapters must lie inside the registry")
    room.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with FileLock(room / ".lock", timeout=_LOCK_TIMEOUT_S):
            _remove_stale(room)
            path = Path(tempfile.mkdtemp(dir=room, prefix=f"{adapter}-"))
            holding = FileLock(f"{path}.lock", timeout=0)
            stack.enter_context(holding)
        stack.callback(Path(holding.lock_file).unlink, missing_ok=True)
        stack.callback(shutil.rmtree, path, ignore_errors=True)
        yield path


def publish(staged_path: Path, target: Path) -> None:
    """Renames a staged directory to `target`, whose lock the caller holds."""
    staged_path.chmod(0o755)
    rename_into_place(staged_path, target)


def _remove_stale(room: Path) -> None:
    """Removes staging directories whose lock is free, left by killed processes; the caller holds the lock of `room`."""
    for lock in room.glob("?*.lock"):
        try:
            with FileLock(lock, timeout=0):
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        except Timeout:
            continue
        lock.unlink(missing_ok=True)
    for left in room.iterdir():  # left by a process killed before it made the lock
        if left.is_dir() and not Path(f"{left}.lock").exists():
            shutil.rmtree(left, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())


def _flush(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _public_name(base_model: str) -> str:
    """Returns a hub id as it is, and a directory's name without its path."""
    return base_id(base_model) if Path(base_model).is_dir() else base_model
