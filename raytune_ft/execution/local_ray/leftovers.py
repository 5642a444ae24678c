"""The processes of a private Ray, ended at once and for good: left to themselves, workers take a second to notice that
their raylet is gone, and one that hangs at its exit outlives it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from raytune_ft.execution.local_ray.alive import wait_for_end
from raytune_ft.private_names import all_there, patches_wanted

NAMES = ("ray._private.worker:_global_node", "ray._private.node:Node.kill_all_processes")
GONE_S = 5.0
"""How long killed processes may take to be gone."""


@contextmanager
def workers_end(server: psutil.Process | None = None) -> Iterator[None]:
    """Ray, which nobody uses any more, is shut down in this block; what its raylet had started ends with it.

    Args:
        server: What had started workers for it, if anything.

    Read against ray 2.60.0, which leaves its processes before it ends them: killed earlier, they would be missed.
    """
    started = _started(server)
    node = None
    if patches_wanted() and all_there(*NAMES, without="Ray waits a second for its raylet to end"):
        node = importlib.import_module("ray._private.worker")._global_node
    if node is not None:
        end = node.kill_all_processes

        def end_all(**_: Any) -> None:
            started.extend(_started(server))  # some may have been on their way
            end(check_alive=False)  # without the second that a raylet takes to part with its workers

        node.kill_all_processes = end_all
    try:
        yield
    finally:
        _kill(started)
        wait_for_end(set(started), GONE_S)


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _started(server: psutil.Process | None) -> list[psutil.Process]:
    """What Ray's processes that this one has started have started themselves, or had the server start."""
    parents = [*_raylets(), *([server] if server else [])]
    return [child for each in parents for child in _children(each)]


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _raylets() -> list[psutil.Process]:
    """Those that this process has started."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == "raylet":
                found.append(child)
    return found
