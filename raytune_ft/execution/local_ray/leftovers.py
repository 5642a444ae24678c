"""Ends the processes of a private Ray at once: left to themselves, workers take a second to notice that their raylet is
gone, and one that hangs at its exit outlives it."""

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
"""Seconds that killed processes may take to be gone."""


@contextmanager
def workers_end(server: psutil.Process | None = None) -> Iterator[None]:
    """Ends what the raylet had started, at the end of the block, in which the caller shuts down its unused Ray.

    Read against ray 2.60.0, which still talks to its processes before it ends them, so none may be killed earlier.

    Args:
        server: The fork server that had started workers for Ray, if any.
    """
    started = _started(server)
    node = None
    if patches_wanted() and all_there(*NAMES, without="Ray waits a second for its raylet to end"):
        node = importlib.import_module("ray._private.worker")._global_node
    if node is not None:
        end = node.kill_all_processes

        def end_all(**_: Any) -> None:
            started.extend(_started(server))  # some may have started meanwhile
            end(check_alive=False)  # skips the second that a raylet takes to end its workers

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
    """Returns the children of this process's raylets and of the fork server, and their children."""
    parents = [*_raylets(), *([server] if server else [])]
    return [child for each in parents for child in _children(each)]


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _raylets() -> list[psutil.Process]:
    """Returns the raylets that this process has started."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == "raylet":
                found.append(child)
    return found
