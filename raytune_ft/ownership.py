"""Whether a run directory is only its user's: restoring what somebody else left may run their code."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory

_LOOK = "look at what is in there, then"


def check_own(run: RunDirectory, *, trust: bool) -> None:
    """Refuses a run directory of which anything belongs to another user, or can be written by one.

    Optimizer states of DeepSpeed are pickles, a database and a resolved experiment say which paths are read, and
    `evaluation.json` opens the gates: whoever wrote them decides what happens here.

    Args:
        run: The run directory; one that is not there yet is nobody's.
        trust: The user has looked at it, and says so.

    Raises:
        InputError: Somebody else made it, or a part of it, or could have.
    """
    if trust:
        return
    own_group = _private_group()
    for path, status in _all_of(run.root):
        if status.st_uid != os.geteuid():
            what = f"belongs to {_user(status.st_uid)}, and restoring from it trusts whoever wrote it"
            raise InputError(str(path), what, f"{_LOOK} add --trust")
        if writers := _other_writers(status, own_group):
            what = f"can be written by {writers}, and restoring from it trusts whoever wrote it"
            raise InputError(str(path), what, f"{_LOOK} chmod -R go-w {run.root}, or add --trust")


@contextmanager
def writes_for_oneself() -> Iterator[None]:
    """What this process and those that it starts create in this block, no other user can write, whatever the umask."""
    before = os.umask(0o022)
    os.umask(before | 0o022)
    try:
        yield
    finally:
        os.umask(before)


def _all_of(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The directory, and all in it; a link for itself. What vanishes meanwhile is left out."""
    with suppress(FileNotFoundError):
        yield root, root.stat()
    waiting = [root]
    while waiting:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    yield Path(entry.path), _status(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))


def _status(path: str) -> os.stat_result:
    return os.lstat(path)


def _other_writers(status: os.stat_result, own_group: int | None) -> str | None:
    """Who besides its owner may write it; everybody may write a link, which nobody can change."""
    if stat.S_ISLNK(status.st_mode):
        return None
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid != own_group:
        return f"the group {_group(status.st_gid)}"
    return None


def _private_group() -> int | None:
    """The user's group of one, by the custom of many systems, whose umask lets it write; None where it has none."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid())
        group = grp.getgrgid(user.pw_gid)
    except KeyError:
        return None
    return group.gr_gid if group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name} else None


def _user(uid: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (user id {uid})"
    except KeyError:
        return f"user id {uid}"


def _group(gid: int) -> str:
    import grp

    try:
        return f"{grp.getgrgid(gid).gr_name} (group id {gid})"
    except KeyError:
        return f"group id {gid}"
