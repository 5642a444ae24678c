"""Checks whether psutil's processes still run, and waits for their end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


def alive(process: psutil.Process) -> bool:
    """Returns whether the process still runs; a zombie, which has ended and waits for its parent, does not."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_end(processes: set[psutil.Process], timeout_s: float) -> set[psutil.Process]:
    """Waits until all processes have ended, at most `timeout_s` seconds; returns those that are still alive."""
    deadline = time.monotonic() + timeout_s
    while left := {process for process in processes if alive(process)}:
        if time.monotonic() >= deadline:
            return left
        time.sleep(0.05)
    return set()
