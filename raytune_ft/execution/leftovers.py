"""The processes of a private Ray, ended for good: a worker that hangs at its exit outlives its raylet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

GRACE_S = 5.0
"""How long workers may take to end after their raylet."""


@contextmanager
def workers_end() -> Iterator[None]:
    """Ray is shut down in this block; what its raylet had started and is still there some seconds later is killed."""
    workers = [child for raylet in _raylets() for child in raylet.children(recursive=True)]
    try:
        yield
    finally:
        _, left = psutil.wait_procs(workers, timeout=GRACE_S)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _raylets() -> list[psutil.Process]:
    """Those that this process has started."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == "raylet":
                found.append(child)
    return found
