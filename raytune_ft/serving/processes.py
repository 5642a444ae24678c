"""The processes that an endpoint starts, and their end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from raytune_ft.errors import RaytuneError

if TYPE_CHECKING:
    import psutil

_GRACE_S = 10.0


def children() -> set[psutil.Process]:
    """All processes below this one, as psutil knows them (safe against reused process ids)."""
    import psutil

    return set(psutil.Process().children(recursive=True))


def end(processes: set[psutil.Process], grace_s: float = _GRACE_S) -> int:
    """Waits until the processes have ended, terminates and then kills the rest; returns how many had to be ended.

    Raises:
        RaytuneError: One can't be killed.
    """
    import psutil

    left = _wait(processes, grace_s)
    for how in (psutil.Process.terminate, psutil.Process.kill):
        for process in (remaining := _wait(left, 0.0)):
            try:
                how(process)
            except psutil.NoSuchProcess:
                continue
        remaining = _wait(remaining, grace_s)
    if remaining:
        raise RaytuneError(f"serve: these processes can't be ended: {sorted(each.pid for each in remaining)}")
    return len(left)


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that has ended and waits to be collected by a parent does not."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait(processes: set[psutil.Process], timeout_s: float) -> set[psutil.Process]:
    """Those that are still alive after the time, or as soon as all have ended, none."""
    deadline = time.monotonic() + timeout_s
    while left := {process for process in processes if alive(process)}:
        if time.monotonic() >= deadline:
            return left
        time.sleep(0.05)
    return set()
