"""Lists the files that are sent with a job for one named file or directory, and checks that each may be sent."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from raytune_ft.cluster.paths_on_cluster import LEFT_OUT_ANYWHERE, READ, is_left_out
from raytune_ft.cluster.secret_files import secret_by_name, secret_in_content
from raytune_ft.errors import InputError

EXPERIMENT = "the experiment"
"""The reason `why` of the experiment's own file, which is sent wherever it is."""
_NEVER = ("__pycache__", "node_modules")


def files_of(root: Path, path: Path, why: str) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Returns the files to send for a path, and the folders that are left out.

    Hidden files, hidden folders, folders of results and caches are left out; caches are not reported.

    Args:
        root: The working directory.
        path: A file or directory relative to it, as are the returned paths.
        why: The setting that names it, or another reason for sending it.

    Raises:
        InputError: A directory has no file to send, or has a folder that is a link or can't be read, so that the job
            would lack files.
    """
    if not (root / path).is_dir():
        return (path,), ()
    files: list[Path] = []
    left_out: list[Path] = []
    unreadable: list[OSError] = []
    for folder, folders, names in os.walk(root / path, onerror=unreadable.append):
        inside = Path(folder).relative_to(root)
        folders[:] = sorted(name for name in folders if name not in _NEVER)
        stay = [name for name in folders if name.startswith(".") or name in LEFT_OUT_ANYWHERE]
        left_out += [inside / name for name in stay]
        folders[:] = [name for name in folders if name not in stay]
        if links := [inside / name for name in folders if (root / inside / name).is_symlink()]:
            what = f"is a link to a folder, which is not followed inside of what is sent ({why})"
            raise InputError(_shown(links[0]), what, remedy(why, "put the folder itself there"))
        files += [inside / name for name in sorted(names) if not name.startswith(".") and not name.endswith(".pyc")]
    if unreadable:
        raise _unreadable(Path(os.path.relpath(unreadable[0].filename, root)), unreadable[0])
    if not files:
        raise InputError(_shown(path), f"holds no file that would be sent ({why})", remedy(why, "put its files there"))
    return tuple(files), tuple(left_out)


def check_sent(root: Path, file: Path, why: str) -> None:
    """Refuses a file that must not or can't be sent; for a link, both its own and its target's name are checked.

    Raises:
        InputError: It looks like a secret, is not a regular file, is a link out of the working directory or to
            something that is left out, can't be read, or has an unusable name.
    """
    check_writable_name(file, why)
    target = (root / file).resolve() if (root / file).exists() else root / file
    inside = target.relative_to(root) if target.is_relative_to(root) else None
    for name in dict.fromkeys((file, inside or target)):
        if what := secret_by_name(PurePosixPath(name)):
            raise InputError(str(file), f"{what}, and {_would(why)}", _secret_remedy(why, "move it elsewhere"))
    if inside is None or (why != EXPERIMENT and is_left_out(inside.parts)):
        where = "outside of the working directory" if inside is None else "among results or hidden files"
        what = f"leads to {_shown(target)}, {where}, and would be sent ({why})"
        raise InputError(str(file), what, remedy(why, "put a copy in its place"))
    try:
        if not stat.S_ISREG((root / file).stat().st_mode):  # reading a pipe would never end
            raise InputError(str(file), f"is no regular file, and would be sent ({why})", remedy(why, "remove it"))
        found = secret_in_content(root / file)
    except OSError as error:
        raise _unreadable(file, error) from None
    if found:
        line, looks_like = found
        what = f"holds what looks like {looks_like}, and {_would(why)}"
        raise InputError(f"{file}:{line}", what, _secret_remedy(why, "take it out"))


def check_writable_name(path: Path, why: str) -> None:
    """Refuses a name that a file list and an archive can't hold.

    Raises:
        InputError: The name is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(
            _shown(path), f"has a name that is not UTF-8, and would be sent ({why})", "rename it"
        ) from None


def remedy(why: str, first: str) -> str:
    """Returns the remedy for something that can't be sent: `first`, if given, or how to leave out what `why` names."""
    if why == "--also":
        last = "leave it out of --also"
    elif why in READ:
        last = f"put it where every node sees it and name it so: --set {why}=/shared/..."
    else:
        last = "" if first else "move it out of the working directory"
    return ", or ".join(part for part in (first, last) if part)


def _secret_remedy(why: str, first: str) -> str:
    if why == "--also" or why in READ:
        return remedy(why, first)
    return f"{first}, or move it out of the working directory; keys belong into the nodes' environment"


def _would(why: str) -> str:
    return f"would be sent ({why}) to where whoever reaches the cluster can read it"


def _unreadable(path: Path, error: OSError) -> InputError:
    first = "let this user read it" if isinstance(error, PermissionError) else "remove it, or put a file in its place"
    return InputError(_shown(path), f"can't be read ({error.strerror})", first)


def _shown(path: Path) -> str:
    """Returns the path as text, with `\\xff` for a byte that is not UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")
