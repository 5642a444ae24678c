"""Finds and ends the processes that an endpoint starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raytune_ft.errors import RaytuneError
from raytune_ft.execution.local_ray.alive import wait_for_end

if TYPE_CHECKING:
    import psutil

_GRACE_S = 10.0


def children() -> set[psutil.Process]:
    """Returns all descendants of this process as psutil objects, which are safe against reused process ids."""
    import psutil

    return set(psutil.Process().children(recursive=True))


def end(processes: set[psutil.Process], grace_s: float = _GRACE_S) -> int:
    """Waits for the processes to exit, then terminates and finally kills the rest.

    Args:
        processes: The processes to wait for.
        grace_s: Seconds to wait before each of these steps.

    Returns:
        The number of processes that did not exit by themselves.

    Raises:
        RaytuneError: A process can't be killed.
    """
    import psutil

    left = wait_for_end(processes, grace_s)
    for how in (psutil.Process.terminate, psutil.Process.kill):
        for process in (remaining := wait_for_end(left, 0.0)):
            try:
                how(process)
            except psutil.NoSuchProcess:
                continue
        remaining = wait_for_end(remaining, grace_s)
    if remaining:
        raise RaytuneError(f"serve: these processes can't be ended: {sorted(each.pid for each in remaining)}")
    return len(left)
