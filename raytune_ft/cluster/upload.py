"""Chooses the files that are sent with a job, checks them for secrets, and adds up their size."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raytune_ft.cluster.paths_on_cluster import Named, is_left_out, names_inside
from raytune_ft.cluster.sent_files import EXPERIMENT, check_sent, check_writable_name, files_of, remedy
from raytune_ft.errors import InputError

MAX_UPLOAD_BYTES = 100 * 1024**2
"""Most bytes that Ray 2.60's dashboard accepts (DASHBOARD_CLIENT_MAX_SIZE); above it answers 413."""
_ZIP_BYTES_PER_FILE = 128
"""Bytes of a file's headers in the archive, without its name, which is stored twice."""
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Part:
    """One file or directory to send."""

    why: str
    """The setting that names it, or another reason for sending it."""
    path: Path
    """The path relative to the working directory."""
    files: tuple[Path, ...]
    """The directory's files, or the file itself; paths relative to the working directory."""
    size: int
    """Bytes of all files together."""
    left_out: tuple[Path, ...] = ()
    """Folders of the directory that are not sent."""

    def __str__(self) -> str:
        first = ", ".join(str(folder) for folder in self.left_out[:3])
        more = f" and {len(self.left_out) - 3} more" if len(self.left_out) > 3 else ""
        without = f", without {first}{more}" if first else ""
        files = f"{len(self.files)} file{'s' * (len(self.files) != 1)}"
        count = f" ({files}{without})" if self.files != (self.path,) else ""
        return f"{self.path}{count}  {shown_bytes(self.size)}  {self.why}"


@dataclass(frozen=True)
class Upload:
    """All files that are sent with a job."""

    root: Path
    parts: tuple[Part, ...]

    @property
    def files(self) -> list[Path]:
        """The distinct paths of all files, relative to `root`."""
        return list(dict.fromkeys(file for part in self.parts for file in part.files))

    @property
    def size(self) -> int:
        """Bytes of the uncompressed archive that is sent."""
        return sum(
            (self.root / file).stat().st_size + _ZIP_BYTES_PER_FILE + 2 * len(os.fsencode(file)) for file in self.files
        )

    def lines(self) -> list[str]:
        """Returns lines for the user that describe what will be sent."""
        count = len(self.files)
        head = f"sends {count} file{'' if count == 1 else 's'} of {self.root}, {shown_bytes(self.size)}:"
        return [head, *(f"  {part}" for part in self.parts)]

    def copy_to(self, directory: Path) -> None:
        """Copies the files to an empty directory, which then holds exactly what is sent."""
        for file in self.files:
            target = directory / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / file, target)


def choose(root: Path, experiment: Path, named: Sequence[Named], also: Sequence[Path] = ()) -> Upload:
    """Chooses the files of the working directory that a job needs.

    These are the experiment's file, the files that it names, this package if the working directory is a checkout of
    it, and the files that the user adds.

    Args:
        root: The absolute path of the working directory.
        experiment: The experiment's file, relative to `root`.
        named: The files and directories that the experiment names.
        also: Files and directories that the user adds; relative paths refer to `root`.

    Raises:
        InputError: A file looks like a secret, can't be sent, is missing or outside `root`, or all are too large.
    """
    wanted = [(EXPERIMENT, experiment), *((each.setting, each.path) for each in named)]
    if _PACKAGE.parent == root:
        wanted.append(("this package", Path(_PACKAGE.name)))
    wanted += [("--also", _added(path, root)) for path in also]
    parts = []
    for why, path in wanted:
        files, left_out = files_of(root, path, why)
        for file in files:
            check_sent(root, file, why)
        parts.append(Part(why, path, files, sum((root / file).stat().st_size for file in files), left_out))
    upload = Upload(root, tuple(parts))
    if upload.size > MAX_UPLOAD_BYTES:
        largest = max(parts, key=lambda part: part.size)
        what = f"{shown_bytes(largest.size)} of the {shown_bytes(upload.size)} that would be sent"
        limit = f"Ray's dashboard takes {shown_bytes(MAX_UPLOAD_BYTES)}"
        raise InputError(str(largest.path), f"{what}; {limit}", remedy(largest.why, ""))
    return upload


def shown_bytes(count: int) -> str:
    """Formats a number of bytes, such as `3.4 MiB`."""
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def _added(path: Path, root: Path) -> Path:
    check_writable_name(path, "--also")
    if not (root / path).exists():
        raise InputError("--also", f"no file {path}", f"paths are relative to the working directory {root}")
    names = names_inside(path, root)
    if names is None or not all(name.parts for name in names):
        what = f"{path} is not inside the working directory {root}"
        raise InputError("--also", what, "name single files or folders that the job reads")
    if any(is_left_out(name.parts) for name in names):
        what = f"{path} is, or leads to, results or something hidden, which are never sent"
        raise InputError("--also", what, "copy what the job needs to another folder")
    return names[0]
