"""The processes that an endpoint starts, and their end."""

from __future__ import annotations

from typing import Any

_GRACE_S = 15.0


def children() -> set[Any]:
    """All processes below this one, as psutil knows them (safe against reused process ids)."""
    import psutil

    return set(psutil.Process().children(recursive=True))


def end(processes: set[Any]) -> int:
    """Waits until the processes have ended, terminates and then kills the rest; returns how many had to be ended.

    Raises:
        RaytuneError: One can't be killed.
    """
    import psutil

    from raytune_ft.errors import RaytuneError

    _, left = psutil.wait_procs(processes, timeout=_GRACE_S)
    for process in left:
        _signal(process, "terminate")
    _, stubborn = psutil.wait_procs(left, timeout=_GRACE_S)
    for process in stubborn:
        _signal(process, "kill")
    _, immortal = psutil.wait_procs(stubborn, timeout=_GRACE_S)
    if immortal:
        raise RaytuneError(f"serve: these processes can't be ended: {sorted(each.pid for each in immortal)}")
    return len(left)


def _signal(process: Any, how: str) -> None:
    import psutil

    try:
        getattr(process, how)()
    except psutil.NoSuchProcess:
        return
