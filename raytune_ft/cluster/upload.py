"""What goes along with a job: a list of files that are allowed to, looked through for secrets, and their size."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from raytune_ft.cluster.paths_on_cluster import READ, Named, is_left_out
from raytune_ft.cluster.secret_files import secret_by_name, secret_in_content
from raytune_ft.errors import InputError

MAX_UPLOAD_BYTES = 100 * 1024**2
"""What a dashboard of Ray 2.60 takes (DASHBOARD_CLIENT_MAX_SIZE); above, it answers 413."""
_ZIP_BYTES_PER_FILE = 128
"""Headers of a file in the archive, besides its name, which stands there twice."""
_PACKAGE = Path(__file__).resolve().parents[1]
_NEVER = ("__pycache__", "node_modules")


@dataclass(frozen=True)
class Part:
    """One file or directory that goes along."""

    why: str
    """The setting that names it, or what else it is for."""
    path: Path
    """Relative to the working directory."""
    files: tuple[Path, ...]
    """Likewise; itself, where it is a file."""
    size: int
    """Bytes of all of them."""

    def __str__(self) -> str:
        count = f" ({len(self.files)} files)" if self.files != (self.path,) else ""
        return f"{self.path}{count}  {shown_bytes(self.size)}  {self.why}"


@dataclass(frozen=True)
class Upload:
    """All that goes along with a job."""

    root: Path
    parts: tuple[Part, ...]

    @property
    def files(self) -> list[Path]:
        """Relative to `root`; each once."""
        return list(dict.fromkeys(file for part in self.parts for file in part.files))

    @property
    def size(self) -> int:
        """Bytes of the archive that is sent, which is not compressed."""
        return sum(
            (self.root / file).stat().st_size + _ZIP_BYTES_PER_FILE + 2 * len(os.fsencode(file)) for file in self.files
        )

    def lines(self) -> list[str]:
        """What a person should know before it is sent."""
        count = len(self.files)
        head = f"sends {count} file{'' if count == 1 else 's'} of {self.root}, {shown_bytes(self.size)}:"
        return [head, *(f"  {part}" for part in self.parts)]

    def copy_to(self, directory: Path) -> None:
        """Copies the files to an empty directory, which then holds what is sent and nothing else."""
        for file in self.files:
            target = directory / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / file, target)


def choose(root: Path, experiment: Path, named: Sequence[Named], also: Sequence[Path] = ()) -> Upload:
    """What a job needs of the working directory.

    That is the experiment's file, what it names, this package where the working directory is a checkout of it, and
    what a user adds.

    Args:
        root: The working directory, absolute.
        experiment: The experiment's file, relative to `root`.
        named: What the experiment names.
        also: Files and directories of `root` that a user adds; relative ones refer to `root`.

    Raises:
        InputError: A file looks like a secret or can't be read, an added one lies outside, or all are too large.
    """
    wanted = [("the experiment", experiment), *((each.setting, each.path) for each in named)]
    if _PACKAGE.parent == root:
        wanted.append(("this package", Path(_PACKAGE.name)))
    wanted += [("--also", _added(path, root)) for path in also]
    parts = []
    for why, path in wanted:
        files = tuple(_files(root, path))
        for file in files:
            _refuse_secret(root, file, why)
        parts.append(Part(why, path, files, sum((root / file).stat().st_size for file in files)))
    upload = Upload(root, tuple(parts))
    if upload.size > MAX_UPLOAD_BYTES:
        largest = max(parts, key=lambda part: part.size)
        what = f"{shown_bytes(largest.size)} of the {shown_bytes(upload.size)} that would be sent"
        limit = f"Ray's dashboard takes {shown_bytes(MAX_UPLOAD_BYTES)}"
        raise InputError(str(largest.path), f"{what}; {limit}", _remedy(largest.why))
    return upload


def shown_bytes(count: int) -> str:
    """`3.4 MiB`."""
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def _added(path: Path, root: Path) -> Path:
    found = root / path
    if not found.exists():
        raise InputError("--also", f"no file {path}", f"paths are relative to the working directory {root}")
    inside = Path(os.path.normpath(found))
    if inside == root or not inside.is_relative_to(root):
        what = f"{path} is not inside the working directory {root}"
        raise InputError("--also", what, "name single files or folders that the job reads")
    inside = inside.relative_to(root)
    if is_left_out(inside.parts):
        what = f"{inside} lies in a folder of results, or in a hidden one, which are never sent"
        raise InputError("--also", what, "copy what the job needs to another folder")
    return inside


def _files(root: Path, path: Path) -> Iterator[Path]:
    """The file, or a directory's files in order; hidden ones inside a directory, and caches, are left out."""
    if (root / path).is_file():
        yield path
        return
    for folder, folders, names in os.walk(root / path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NEVER)
        for name in sorted(names):
            if not name.startswith(".") and not name.endswith(".pyc"):
                yield (Path(folder) / name).relative_to(root)


def _refuse_secret(root: Path, file: Path, why: str) -> None:
    """A link is what it leads to, so both names count."""
    for name in dict.fromkeys((file, (root / file).resolve())):
        inside = name.relative_to(root) if name.is_relative_to(root) else name
        if what := secret_by_name(PurePosixPath(inside)):
            raise InputError(str(file), f"{what}, and {_would(why)}", _remedy(why, "remove it, rename it, or "))
    try:
        found = secret_in_content(root / file)
    except OSError as error:
        raise InputError(str(file), f"can't be read ({error.strerror})", "let this user read it") from None
    if found:
        line, looks_like = found
        what = f"holds what looks like {looks_like}, and {_would(why)}"
        raise InputError(f"{file}:{line}", what, _remedy(why, "take it out, or "))


def _would(why: str) -> str:
    return f"would be sent ({why}) to where whoever reaches the cluster can read it"


def _remedy(why: str, first: str = "") -> str:
    if why == "--also":
        return f"{first}leave it out of --also"
    if why in READ:
        return f"{first}put it where every node sees it and name it so: --set {why}=/shared/..."
    return f"{first}move it out of the working directory; keys belong into the nodes' environment"
