"""Files that another step reads: written aside, flushed, renamed; read with a checksum."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_ft.errors import IntegrityError


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes `text` so that a reader sees the old file or the whole new one, also after a crash."""
    write_bytes(path, text.encode("utf-8"), mode)


def write_bytes(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Writes `data` so that a reader sees the old file or the whole new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(aside, mode)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def rename_into_place(aside: Path, target: Path) -> None:
    """Renames a whole file or directory, whose contents are on disk, to the name that others read; survives a crash."""
    os.replace(aside, target)
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Makes a rename inside `path` survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_directory(path: Path) -> None:
    """Removes a directory so that a reader sees all of it or nothing, also after a crash; what can't be removed stays.

    It is renamed first, to a hidden name in the same place, which a later call for `path` or for that name removes.
    """
    hidden = path if path.name.startswith(".") else path.with_name(f".{path.name}.removed")
    if hidden != path:
        shutil.rmtree(hidden, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Writes `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", mode)


def read_json(path: Path) -> Any:
    """Reads JSON; raises IntegrityError, naming the file, when it is not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # the latter of thousands of brackets
        remedy = "put a whole one back, or run the step that writes it again"
        raise IntegrityError(f"{path}: not whole JSON ({error}); {remedy}") from error


def sha256_file(path: Path) -> str:
    """Hex sha256 of the file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checkpoint_name(step: int) -> str:
    """Directory of the checkpoint of `step`, in the trial's `checkpoints/`."""
    return f"step-{step:06d}"


@dataclass(frozen=True)
class RunDirectory:
    """Where one experiment's run keeps what; the only place that knows the file names."""

    root: Path

    @property
    def experiment(self) -> Path:
        return self.root / "experiment.yaml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def study(self) -> Path:
        return self.root / "study.db"

    @property
    def identity(self) -> Path:
        """Tells the run from others whose study has the same name on a shared storage."""
        return self.root / ".run-id"

    @property
    def extended(self) -> Path:
        return self.root / "extended.json"

    @property
    def base_loss(self) -> Path:
        """The base's own loss on the validation split."""
        return self.root / "base_loss.json"

    @property
    def events(self) -> Path:
        """What happened in the run, in order."""
        return self.root / "events.jsonl"

    @property
    def trials(self) -> Path:
        return self.root / "trials"

    @property
    def leaderboard(self) -> Path:
        return self.root / "leaderboard.json"

    @property
    def winner(self) -> Path:
        return self.root / "winner.json"

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation.json"

    @property
    def scores(self) -> Path:
        """The winner's scores of the test split, row by row."""
        return self.root / "evaluation.scores.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def spent(self) -> Path:
        return self.root / "spent.json"

    @property
    def driver(self) -> Path:
        """Which process drives the run, and when it was last alive."""
        return self.root / "driver.json"

    @property
    def warm_start(self) -> Path:
        return self.root / "warm_start.json"

    def trial(self, trial_id: str) -> TrialDirectory:
        return TrialDirectory(self.trials / trial_id)


@dataclass(frozen=True)
class TrialDirectory:
    """Where one trial keeps what."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def progress(self) -> Path:
        """Where it is between two reports."""
        return self.root / "progress.json"

    @property
    def outcome(self) -> Path:
        return self.root / "outcome.json"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"


def shown_path(path: Path) -> Path:
    """As a user types it: relative to the working directory where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def nearest_directory(path: Path) -> Path:
    """`path`, or of the directories above it the first that is there."""
    path = path.resolve()
    return next(each for each in (path, *path.parents) if each.is_dir())
