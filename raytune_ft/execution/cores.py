"""Cores of one's own: workers on one node agree on who runs where, without anybody who hands them out."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

_held: list[FileLock] = []  # for the life of the process: a lock is released when its file is closed


def claim_cores(count: int, directory: Path | None = None) -> tuple[int, ...]:
    """Takes `count` cores that no other process of this user took; () when fewer are free.

    A core stays taken until the process ends, however it ends.

    Args:
        count: How many.
        directory: Of the lock files; by default one per user and machine.
    """
    held: list[FileLock] = []
    cores: list[int] = []
    try:
        where = directory or _private_directory()
        for core in sorted(os.sched_getaffinity(0)):
            if len(cores) == count:
                break
            lock = FileLock(where / f"{core}.lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                continue
            held.append(lock)
            cores.append(core)
    except OSError:  # no place for lock files: as if no core were free
        cores.clear()
    if len(cores) < count:
        for lock in held:
            lock.release()
        return ()
    _held.extend(held)
    return tuple(cores)


def pin_to(cores: tuple[int, ...]) -> None:
    """Keeps the calling thread, and the threads that it starts from now on, on `cores`; () changes nothing."""
    if cores:
        os.sched_setaffinity(0, cores)


def _private_directory() -> Path:
    """A directory that only this user can write to: in a shared one, another could hold every lock."""
    directory = Path(tempfile.gettempdir()) / f"raytune-ft-cores-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:  # a link has 0777
        raise PermissionError(f"{directory}: belongs to somebody else, or others may write to it")
    return directory
