"""The fork server, whose forks are workers: `python -m` this module, with FILE MODULE MODULE NAME....

It imports Ray only when the raylet and the job are known, as Ray reads both at import. The server ends when its
standard input is closed, which the process that started it holds open.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from raytune_ft.execution.local_ray.forked.setup_worker import FORKED
from raytune_ft.execution.local_ray.forked.worker import become_worker

READ_AT_USE = ("RAY_", "TUNE_", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTHONBREAKPOINT", "PL_DISABLE_FORK",
               "SPT_NOENV", "PYTORCH_NVML_BASED_CUDA_CHECK")  # fmt: skip
"""Prefixes of environment variables that the imported modules read only when they use them: a worker's environment may
differ from the server's in these alone."""
READ_BY_RAY = ("RAY_JOB_ID", "RAY_RAYLET_PID")
"""Exceptions from `READ_AT_USE`: Ray reads these when it is imported."""
LOOK_ONLY = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""Keeps modules that look for a GPU at import from initialising CUDA, as a fork could not use the GPU then."""
COPY_S = 10.0
"""Seconds that a test fork may take to say that it is sound."""
_LIMIT = 2**20  # bytes of a request


@dataclass(frozen=True)
class Request:
    """A request for a worker.

    Attributes:
        worker: The worker as `setup_worker.worker_of` describes it. Without a `command`, the server only gets ready for
            the Ray of its `environment`.
        files: File descriptors of the fork's standard input, output and error.
    """

    worker: dict[str, Any]
    files: list[int]


class Server:
    """Answers requests one after another.

    Args:
        listening: The server's listening socket.
        module: The module to import once a first request has said which Ray it is for.
    """

    def __init__(self, listening: socket.socket, module: str) -> None:
        self._listening = listening
        self._module = module
        self._environment = dict(os.environ)
        self._set_by_imports: dict[str, str] = {}
        self._sound: bool | None = None  # known once the module is imported

    def imported(self) -> None:
        """Notes which variables the first module's import has set: a worker may have these, as the driver does."""
        new = {name: value for name, value in os.environ.items() if self._environment.get(name) != value}
        self._set_by_imports = {name: value for name, value in new.items() if name not in LOOK_ONLY}

    def serve(self) -> Request | None:
        """Returns in each fork with its request, and at the end in the server itself with None."""
        while True:
            ready, _, _ = select.select([self._listening, sys.stdin], [], [])
            if sys.stdin in ready:  # nothing is ever written there: it was closed
                return None
            connection, _ = self._listening.accept()
            with connection, contextlib.suppress(OSError, ValueError):
                connection.settimeout(10.0)
                request = _receive(connection)
                try:
                    wanted = self._may_fork(request.worker["environment"]) and "command" in request.worker
                    if wanted and not _hung_up(connection) and _fork(connection):
                        self._listening.close()
                        return replace(request, files=[os.dup(file) for file in request.files])
                finally:
                    for file in request.files:
                        os.close(file)

    def _may_fork(self, wanted: Mapping[str, str]) -> bool:
        """Returns whether a fork would behave as a new process does."""
        if not as_imported(wanted, self._environment, self._set_by_imports):
            return False
        if self._sound is None:
            self._sound = self._get_ready(wanted)
        same_ray = all(wanted.get(name) == os.environ.get(name) for name in READ_BY_RAY)
        torch = sys.modules.get("torch")
        begun = threading.active_count() > 1 or (torch is not None and torch.cuda.is_initialized())
        return same_ray and self._sound and not begun  # a fork would lack the threads, and CUDA's state

    def _get_ready(self, wanted: Mapping[str, str]) -> bool:
        os.environ |= wanted
        with drawing_no_id():
            import_all(self._module)
        sound = threading.active_count() == 1 and copies_are_sound()
        gc.freeze()  # a collection would write to each object, and so copy its page
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks for a fork's exit status
        return sound


def as_imported(wanted: Mapping[str, str], own: Mapping[str, str], set_by_imports: Mapping[str, str]) -> bool:
    """Returns whether two environments are alike in all that is read at import, but for what imports set themselves.

    Args:
        wanted: The environment that the worker is to have.
        own: The server's, from before its imports.
        set_by_imports: Variables that the server's imports have set.
    """
    differ = {name for name in wanted.keys() | own.keys() if wanted.get(name) != own.get(name)}
    differ -= {name for name, value in set_by_imports.items() if wanted.get(name) == value}
    return all(name.startswith(READ_AT_USE) for name in differ)


def import_all(*modules: str) -> None:
    """Imports the modules, but for those that fail: whoever needs one of these will raise the error itself."""
    for module in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)


@contextlib.contextmanager
def drawing_no_id() -> Iterator[None]:
    """Keeps Ray's id generator unused in this block, where actor classes draw their ids from `os.urandom` instead.

    Otherwise all forks would share the generator's state, and draw the same ids for their objects.
    """
    actor = importlib.import_module("ray.actor")
    ids = actor.ActorClassID

    class Drawn:
        @staticmethod
        def from_random() -> Any:
            return ids(os.urandom(ids.size()))

    with mock.patch.object(actor, "ActorClassID", Drawn):
        yield


def copies_are_sound() -> bool:
    """Returns whether two test forks draw different ids, and could use CUDA, which a mere look for GPUs may prevent."""
    torch = sys.modules.get("torch")
    ids = importlib.import_module("ray._raylet").ObjectRef
    drawn = set()
    for _ in range(2):
        reading, writing = os.pipe()
        if (copy := os.fork()) == 0:
            try:
                spoiled = torch is not None and torch.cuda._is_in_bad_fork()
                os.write(writing, b"" if spoiled else ids.from_random().binary())
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as file:
            answered, _, _ = select.select([file], [], [], COPY_S)
            drawn.add(file.read() if answered else b"")
        if not answered:
            os.kill(copy, signal.SIGKILL)
        os.waitpid(copy, 0)
    return len(drawn) == 2 and b"" not in drawn


def _receive(connection: socket.socket) -> Request:
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    try:
        message = b""
        while not message.endswith(b"\n") and len(message) < _LIMIT:
            if not (part := connection.recv(65536)):
                break
            message += part
        return Request(json.loads(message), files)
    except (OSError, ValueError):
        for file in files:
            os.close(file)
        raise


def _fork(connection: socket.socket) -> bool:
    """Forks, and returns True in the fork. A requester that gets no answer has Ray start the worker instead."""
    if (copy := os.fork()) == 0:
        return True
    try:
        connection.sendall(FORKED)
    except OSError:
        os.kill(copy, signal.SIGKILL)
    return False


def _hung_up(connection: socket.socket) -> bool:
    """Returns whether the requester has hung up: after a request the connection turns readable only at its end."""
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable)


def main(file: str, first: str, then: str, *meant_for_it: str) -> None:
    """Runs the server, which forks once for each request.

    Args:
        file: File descriptor of the listening socket, as a decimal number.
        first: The module to import first, which does not import Ray.
        then: The module to import once the Ray is known.
        meant_for_it: Names of environment variables of the server that neither forks nor their children may have.
    """
    gc.disable()  # imports leave little to collect, and looking for it takes a quarter of their time
    for name in meant_for_it:
        del os.environ[name]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver too, which ends the server in order
    listening = socket.socket(fileno=int(file))
    listening.set_inheritable(False)
    server = Server(listening, then)
    with mock.patch.dict(os.environ, LOOK_ONLY):
        import_all(first)
        server.imported()
    request = server.serve()
    if request is not None:
        gc.enable()
        become_worker(request.worker, request.files)
        return
    with contextlib.suppress(OSError):  # its starter removes them too, unless it was killed
        os.unlink(listening.getsockname())
        os.rmdir(os.path.dirname(listening.getsockname()))


if __name__ == "__main__":
    main(*sys.argv[1:])
