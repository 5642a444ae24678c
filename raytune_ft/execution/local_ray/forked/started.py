"""Lets workers of a private Ray start in 0.3 s, as forks of one process that has imported what they need.

Ray starts an interpreter for each worker, twice, and both import Ray; torch and transformers come after. That takes 4
core-seconds for a worker that trains and 1.3 for one that only waits, and hundreds of MiB for each that imported them.
A fork shares the memory that it does not write to. Read against ray 2.60.0; where another version lacks these names,
and where `RAYTUNE_FT_FORKED_START=0` says so, Ray starts each worker itself.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from raytune_ft.execution.local_ray.forked import setup_worker
from raytune_ft.execution.local_ray.loopback import environment
from raytune_ft.private_names import all_there, forked_start_wanted

SERVER = "raytune_ft.execution.local_ray.forked.server"
NAMES = (
    "ray._private.parameter:RayParams.update_if_absent",
    "ray._private.worker:_global_node",
    "ray._raylet:ObjectRef.from_random",
    "ray.actor:ActorClassID.from_random",
)
END_S = 5.0
LONGEST = 70
"""Most bytes in the path of the directory for temporary files, as a socket's whole path has 107 at most."""
RECYCLE = "dirty_decay_ms:10000,muzzy_decay_ms:-1,oversize_threshold:0"
"""Settings of jemalloc: it keeps what a training step frees for the next one, and gives pages that are unused for ten
seconds back to the kernel. Given back sooner, some 40,000 pages would be mapped and zeroed anew in each step."""


@dataclass(frozen=True)
class Forked:
    """The running fork server.

    Attributes:
        process: The server's process; the workers are its children.
        address: Path of its socket.
    """

    process: psutil.Process
    address: str

    def get_ready(self) -> None:
        """Has the server import Ray now, before the first worker; is called once this process has connected to Ray."""
        import ray

        node: Any = importlib.import_module("ray._private.worker")._global_node
        known = {
            "RAY_JOB_ID": ray.get_runtime_context().get_job_id(),
            "RAY_RAYLET_PID": str(node.all_processes["raylet"][0].process.pid),
        }
        request = {"environment": {**os.environ, **known}}
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.connect(self.address)
            setup_worker.send(server, request)


@contextmanager
def forked_workers(modules: tuple[str, str]) -> Iterator[Forked | None]:
    """Lets a Ray that is started in this block fork its workers on this machine; after the block none can be forked.

    Where a fork would not behave as a new process does, Ray starts a new process, as it does on systems but Linux.

    Args:
        modules: The module to import before Ray has started, and the one to import then.

    Yields:
        The fork server, or None where Ray starts each worker itself.
    """
    on_linux = sys.platform.startswith("linux")
    if not forked_start_wanted() or not on_linux or len(os.fsencode(tempfile.gettempdir())) > LONGEST:
        yield None
        return
    directory = tempfile.mkdtemp(prefix="raytune-ft-")  # only this user can enter it
    address = str(Path(directory) / "fork-server")
    theirs = allocator(os.environ)
    with environment({setup_worker.SERVER: address}):
        server = _start(address, modules, theirs)
        try:
            with _in_place_of_rays() as replaced:
                yield Forked(psutil.Process(server.pid), address) if replaced else None
        finally:
            assert server.stdin is not None
            server.stdin.close()
            try:
                server.wait(END_S)
            except subprocess.TimeoutExpired:  # it still imports
                server.kill()
                server.wait()
            shutil.rmtree(directory, ignore_errors=True)


def _start(address: str, modules: tuple[str, str], theirs: Mapping[str, str]) -> subprocess.Popen[bytes]:
    said = None if os.environ.get("RAYTUNE_FT_DEBUG") else subprocess.DEVNULL
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:  # listens from now on; early requests wait
        listening.bind(address)
        listening.listen(64)
        file = listening.fileno()
        # -P keeps modules of the working directory from shadowing those that the forks need
        command = [sys.executable, "-P", "-m", SERVER, str(file), *modules, *theirs]
        environment = os.environ | theirs
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment, pass_fds=[file]
        )


def allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns environment variables that make the server, and so its forks, use jemalloc, which comes with Ray.

    Between two matrix products a step frees as much as it takes. The C library keeps that for the next step, but as no
    two steps want the same, its peak is higher: 2,090 MiB against 1,910 with four packed trials of SmolLM2-135M.

    Args:
        environment: The server's environment; if it names an allocator already, that one stays.
    """
    ray = importlib.util.find_spec("ray")
    library = Path(ray.origin).parent / "core" / "libjemalloc.so" if ray is not None and ray.origin else None
    theirs = {"LD_PRELOAD": str(library), "MALLOC_CONF": RECYCLE}
    return theirs if library and library.is_file() and not theirs.keys() & environment.keys() else {}


@contextmanager
def _in_place_of_rays() -> Iterator[bool]:
    """Has Ray run our `setup_worker.py` in place of its own in this block; yields whether it does."""
    if not all_there(*NAMES, without="each worker is a new process, which takes seconds"):  # imports Ray
        yield False
        return
    parameters = importlib.import_module("ray._private.parameter").RayParams
    update = parameters.update_if_absent

    def update_if_absent(self: object, **values: object) -> None:
        if "setup_worker_path" in values:
            values["setup_worker_path"] = setup_worker.__file__
        update(self, **values)

    with mock.patch.object(parameters, "update_if_absent", update_if_absent):
        yield True
