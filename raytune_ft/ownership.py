"""Whether a run directory is only its user's: restoring what somebody else left may run their code."""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory

_LOOK = "look at what is in there, then"
# acl(5) and linux/posix_acl_xattr.h: a version, then entries of a tag, permissions and a user or group id.
_ACL_VERSION = 2
_ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP, _ACL_MASK, _ACL_OTHER = 0x02, 0x04, 0x08, 0x10, 0x20
_ACL_WRITE = 2
_ACL_WORDS = ", by an access control list"
_PASSWD = Path("/etc/passwd")


def check_own(run: RunDirectory, *, trust: bool) -> None:
    """Refuses a run directory of which anything, or anything that a link in it leads to, is another user's to write.

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
        inside = path.is_relative_to(run.root)
        where = str(path) if inside else f"{path} (a link in {run.root} leads there)"
        if status.st_uid != os.geteuid():
            what = f"belongs to {_user(status.st_uid)}, and restoring from it trusts whoever wrote it"
            raise InputError(where, what, f"{_LOOK} add --trust")
        if writers := _other_writers(path, status, own_group):
            what = f"can be written by {writers}, and restoring from it trusts whoever wrote it"
            which = f"-R {{}} {run.root}" if inside else f"{{}} {path}"
            remedy = "setfacl " + which.format("-b") if _ACL_WORDS in writers else "chmod " + which.format("go-w")
            raise InputError(where, what, f"{_LOOK} {remedy}, or add --trust")


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
    """The directory, all in it, and all that links lead to, by its real path; what vanishes meanwhile is left out."""
    with suppress(FileNotFoundError):
        yield root, root.stat()
    waiting: list[Path] = [root]
    seen: set[tuple[int, int]] = set()
    while waiting:
        with suppress(FileNotFoundError, NotADirectoryError):
            directory = waiting.pop()
            status = directory.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for name in os.listdir(directory):
                with suppress(FileNotFoundError):
                    path, status = directory / name, _status(directory / name)
                    yield path, status
                    if stat.S_ISLNK(status.st_mode):
                        path = Path(os.path.realpath(path))
                        yield from _way_to(path, root)
                        if not os.path.exists(path):
                            continue
                        status = path.stat()
                        yield path, status
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(path)


def _status(path: Path) -> os.stat_result:
    return os.lstat(path)


def _way_to(end: Path, root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The directories above a link's end in which another user could put something in its place.

    Not those in which the run itself is, and not the system's: they are root's, and only root can write them. In a
    sticky one (`/tmp`) nobody can replace what is there, but everybody can make what is not there yet.
    """
    own_way = Path(os.path.realpath(root)).parents
    missing = not os.path.exists(end)
    for directory in end.parents:
        if directory in own_way and not missing:
            return
        with suppress(FileNotFoundError):
            status = directory.stat()
            if (missing or not status.st_mode & stat.S_ISVTX) and (status.st_uid != 0 or status.st_mode & 0o022):
                yield directory, status
            missing = False


def _other_writers(path: Path, status: os.stat_result, own_group: int | None) -> str | None:
    """Who besides its owner may write it; everybody may write a link, which nobody can change."""
    if stat.S_ISLNK(status.st_mode):
        return None
    access = _acl(path, "access")
    for acl in (access, _acl(path, "default") if stat.S_ISDIR(status.st_mode) else None):
        if acl is not None and (writers := _writers_of_acl(acl, status.st_gid, own_group)):
            return writers
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    # Beside an access control list the group's bits are the list's mask, and the list has been read.
    if access is None and status.st_mode & stat.S_IWGRP and status.st_gid != own_group:
        return f"the group {_group(status.st_gid)}"
    return None


def _acl(path: Path, kind: str) -> bytes | None:
    """The POSIX access control list, or the one that is inherited in a directory (`default`); None where there is none.

    NFSv4's and Windows' lists have other names and are not read. One that can't be read is empty, which nobody trusts.
    """
    if sys.platform != "linux":
        return None
    try:
        return os.getxattr(path, f"system.posix_acl_{kind}")
    except OSError as error:
        return None if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.ENOSYS, errno.ENOENT) else b""


def _writers_of_acl(acl: bytes, gid: int, own_group: int | None) -> str | None:
    """Who besides this user may write by a list: its mask bounds named users and all groups."""
    if len(acl) % 8 != 4 or struct.unpack_from("<I", acl)[0] != _ACL_VERSION:
        return f"somebody{_ACL_WORDS} that can't be read"
    entries = list(struct.iter_unpack("<HHI", acl[4:]))
    mask = next((permissions for tag, permissions, _ in entries if tag == _ACL_MASK), _ACL_WRITE)
    for tag, permissions, who in entries:
        if not permissions & _ACL_WRITE:
            continue
        if tag == _ACL_OTHER:
            return f"everybody{_ACL_WORDS}"
        if not mask & _ACL_WRITE:
            continue
        if tag == _ACL_USER and who != os.geteuid():
            return f"{_user(who)}{_ACL_WORDS}"
        group = gid if tag == _ACL_GROUP_OBJ else who
        if tag in (_ACL_GROUP_OBJ, _ACL_GROUP) and group != own_group:
            return f"the group {_group(group)}{_ACL_WORDS}"
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
    alone = group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
    return group.gr_gid if alone and not _other_users_of(group.gr_gid, user.pw_name) else None


def _other_users_of(gid: int, name: str) -> bool:
    """Whether it is the primary group of another user of this machine.

    Only of its own file: to list a directory service's users takes minutes, and most services refuse it.
    """
    with suppress(OSError):
        users = [line.split(":") for line in _PASSWD.read_text(errors="replace").splitlines()]
        return any(len(user) > 3 and user[3] == str(gid) and user[0] != name for user in users)
    return False


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
