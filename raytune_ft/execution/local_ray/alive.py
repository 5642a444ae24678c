"""Whether processes still run, as psutil knows them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that has ended and waits to be collected by a parent does not."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_end(processes: set[psutil.Process], timeout_s: float) -> set[psutil.Process]:
    """Those that are still alive after the time, or as soon as all have ended, none."""
    deadline = time.monotonic() + timeout_s
    while left := {process for process in processes if alive(process)}:
        if time.monotonic() >= deadline:
            return left
        time.sleep(0.05)
    return set()
