"""Workers of a private Ray that start in 0.3 s: copies of one process that has imported what they need.

Ray starts an interpreter for each worker, twice, and both import Ray; torch and transformers come after. That takes 4
core-seconds for a worker that trains and 1.3 for one that only waits, and hundreds of MiB for each that imported them.
A copy shares what it does not write to. Read against ray 2.60.0; where another has not these names, and where
`RAYTUNE_FT_FORKED_START=0` says so, Ray starts each worker itself.
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
"""Bytes of the path of the directory for temporary files: a socket's own path has 107 at most."""
RECYCLE = "dirty_decay_ms:10000,muzzy_decay_ms:-1,oversize_threshold:0"
"""To the allocator: what a step frees is there for the next; of what none takes for ten seconds the kernel may have the
pages. Any that are given back sooner are mapped and zeroed anew in each step, some 40,000 of them."""


@dataclass(frozen=True)
class Forked:
    """The server.

    Attributes:
        process: The server's process; the copies are its children.
        address: Path of its socket.
    """

    process: psutil.Process
    address: str

    def get_ready(self) -> None:
        """Called when this process has started and joined its Ray: the server need not wait for the first worker."""
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
    """Whatever a Ray that is started in this block starts on this machine is a copy; at its end no more can be made.

    Where a copy would not be what a new process is, Ray starts a new one, as it does elsewhere than on Linux.

    Args:
        modules: What to import before Ray is there, and then.
    """
    on_linux = sys.platform.startswith("linux")
    if not forked_start_wanted() or not on_linux or len(os.fsencode(tempfile.gettempdir())) > LONGEST:
        yield None
        return
    directory = tempfile.mkdtemp(prefix="raytune-ft-")  # only its owner can enter it
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
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:  # from now on; who asks early, waits
        listening.bind(address)
        listening.listen(64)
        file = listening.fileno()
        # -P: no module of the working directory stands in for one that the copies are to have
        command = [sys.executable, "-P", "-m", SERVER, str(file), *modules, *theirs]
        environment = os.environ | theirs
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment, pass_fds=[file]
        )


def allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables with which the server, and so its copies, take the memory allocator that comes with Ray.

    Between two products a step frees as much as it takes. The C library keeps that for the next step, but as no two
    steps want the same it takes more at the peak, 2,090 MiB against 1,910 where four trials of SmolLM2-135M are packed.

    Args:
        environment: The server's; where it has an allocator already, that one stays.
    """
    ray = importlib.util.find_spec("ray")
    library = Path(ray.origin).parent / "core" / "libjemalloc.so" if ray is not None and ray.origin else None
    theirs = {"LD_PRELOAD": str(library), "MALLOC_CONF": RECYCLE}
    return theirs if library and library.is_file() and not theirs.keys() & environment.keys() else {}


@contextmanager
def _in_place_of_rays() -> Iterator[bool]:
    """Has Ray start our script for a worker; whether it does."""
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
