"""An adapter on its way into the registry: copied aside, held by its process alone, and then renamed into place."""

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
from raytune_ft.paths import sha256_file, sync_directory, write_json
from raytune_ft.registry.adapter import CONFIG_NAME, WEIGHTS_NAME, AdapterFacts, check_adapter
from raytune_ft.registry.base import base_id
from raytune_ft.registry.store import Registry

STAGING = ".incoming"
_LOCK_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class StagedAdapter:
    """The very files that will be served, in a directory that the registry does not list.

    Attributes:
        path: The directory; it can be loaded like a version's.
        facts: What was read of the adapter.
        files: File name -> hex sha256, as they were copied.
        merged: They are a whole model.
    """

    path: Path
    facts: AdapterFacts
    files: dict[str, str]
    merged: bool = False

    def check_unchanged(self) -> None:
        """Raises IntegrityError where a file is not what was copied."""
        for name, expected in self.files.items():
            if sha256_file(self.path / name) != expected:
                raise IntegrityError(f"{self.path / name}: changed while it was examined; promote the run again")


@contextmanager
def staged(registry: Registry, adapter: str, source: Path, base_model: str) -> Iterator[StagedAdapter]:
    """A copy of the adapter in `source`; whoever wants it moves it away before the block ends.

    Only the weights and PEFT's config are taken. What a process that was killed has left is removed; what another one
    works on is not.

    Raises:
        IntegrityError: A file of the adapter is missing or broken.
        RaytuneError: The adapter is of another base, or vLLM couldn't serve it.
    """
    registry.directory(adapter)  # a name that is none is refused before anything is read or written
    facts = check_adapter(source, base_model)
    with _aside(registry, adapter) as path:
        _copy(source / WEIGHTS_NAME, path / WEIGHTS_NAME)
        # The training machine's path means nothing elsewhere, and must not be found in what is published.
        write_json(path / CONFIG_NAME, {**facts.config, "base_model_name_or_path": _public_name(base_model)})
        yield StagedAdapter(path, facts, {name: sha256_file(path / name) for name in (WEIGHTS_NAME, CONFIG_NAME)})


@contextmanager
def staged_model(
    registry: Registry, adapter: str, facts: AdapterFacts, write: Callable[[Path], object]
) -> Iterator[StagedAdapter]:
    """As `staged`, but of what `write` leaves in the directory that it is given: the base, changed by the adapter."""
    with _aside(registry, adapter) as path:
        write(path)
        files = {}
        for entry in sorted(path.iterdir()):
            entry.chmod(0o644)  # safetensors lets only their writer read what it writes
            _flush(entry)
            files[entry.name] = sha256_file(entry)
        yield StagedAdapter(path, facts, files, merged=True)


@contextmanager
def _aside(registry: Registry, adapter: str) -> Iterator[Path]:
    """A directory that this process holds, and that is gone afterwards if it was not moved away."""
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
    staged_path.rename(target)
    sync_directory(target.parent)


def _remove_stale(room: Path) -> None:
    """What nobody holds was left by a process that was killed; the room's lock is ours."""
    for lock in room.glob("?*.lock"):
        try:
            with FileLock(lock, timeout=0):
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        except Timeout:
            continue
        lock.unlink(missing_ok=True)
    for left in room.iterdir():  # killed between the directory and its lock
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
    """A hub id as it is; a directory by its name."""
    return base_id(base_model) if Path(base_model).is_dir() else base_model
