"""Replaces raylet's script `setup_worker.py`: asks the fork server for a worker, and runs Ray's script where it can't.

Raylet runs this file by its path in a new interpreter, so it imports little. Read against ray 2.60.0.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
from typing import Any

SERVER = "RAYTUNE_FT_FORK_SERVER"
"""Environment variable with the path of the server's socket."""
FORKED = b"y"
WAIT_S = 30.0
"""Seconds that the server may take, its imports included; raylet gives up on a worker after 60."""
_CONTEXT, _LANGUAGE = "--serialized-runtime-env-context=", "--language="
_OURS = {"env_vars"}  # the part of a runtime environment that a fork can be given


def main(arguments: list[str]) -> None:
    """Has the fork server start the worker and returns, or else turns this process into Ray's own script."""
    request = worker_of(arguments)
    address = os.environ.get(SERVER)
    if request is not None and address and _forked(address, request):
        return
    worker = next((each for each in arguments if each.endswith("default_worker.py")), None)
    theirs = os.path.join(os.path.dirname(worker or _worker()), "setup_worker.py")
    os.execv(sys.executable, [sys.executable, theirs, *arguments])


def worker_of(arguments: list[str]) -> dict[str, Any] | None:
    """Returns the request for the server, or None if this is not a plain Python worker."""
    context: dict[str, Any] = {}
    command, language = [], "PYTHON"
    for argument in arguments:
        if argument.startswith(_CONTEXT):
            context = json.loads(argument[len(_CONTEXT) :])
        elif argument.startswith(_LANGUAGE):
            language = argument[len(_LANGUAGE) :]
        else:
            command.append(argument)
    plain = context.get("py_executable", sys.executable) == sys.executable
    more = {name for name, value in context.items() if value and name != "py_executable"} - _OURS
    changes = {name: str(value) for name, value in (context.get("env_vars") or {}).items()}
    expanded = any("$" in value for value in changes.values())
    if language != "PYTHON" or not plain or more or expanded or not command[:1] or command[0].startswith("-"):
        return None
    return {
        "command": command,
        "environment": {**os.environ, **changes},
        "directory": os.getcwd(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "own_group": os.getpgrp() == os.getpid(),
        "blocked": sorted(int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "ignores_interrupt": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        "oom_score_adj": _oom_score_adj(),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
    }


def _forked(address: str, request: dict[str, Any]) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.settimeout(WAIT_S)
            server.connect(address)
            send(server, request)
            return server.recv(1) == FORKED
    except OSError:
        return False


def send(server: socket.socket, request: dict[str, Any]) -> None:
    """Sends a request, with the file descriptors of this process's standard input, output and error."""
    socket.send_fds(server, [b"?"], [0, 1, 2])
    server.sendall(json.dumps(request).encode() + b"\n")


def _oom_score_adj() -> str:
    try:
        with open("/proc/self/oom_score_adj") as file:
            return file.read().strip()
    except OSError:
        return ""


def _worker() -> str:
    import importlib.util

    ray = importlib.util.find_spec("ray")
    assert ray is not None and ray.origin is not None
    return os.path.join(os.path.dirname(ray.origin), "_private", "workers", "default_worker.py")


if __name__ == "__main__":
    main(sys.argv[1:])
