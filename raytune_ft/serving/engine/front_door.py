"""An endpoint's port on a Ray of its own: the ingress listens there itself, and no proxy passes its requests on.

Serve's proxy is a process of Python's through which each request and each token goes; on two cores it adds as much to
the first token as all the rest does. Read against ray 2.60.0, whose ingress replicas may listen themselves.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import socket
import time
from typing import Any

from raytune_ft.private_names import all_there, patches_wanted

BUSY_S, RETRY_S = 20.0, 0.2
"""How long a replica waits for the port, and how often it tries: the one before may take its time to end."""
NAMES = (
    "ray.serve._private.http_util:start_asgi_http_server",
    "ray.serve._private.http_util:set_socket_reuse_port",
    "ray.serve._private.replica:start_asgi_http_server",
)
DOOR = "ray.serve._private.constants:RAY_SERVE_ENABLE_DIRECT_INGRESS"
DIRECT = "RAY_SERVE_ENABLE_DIRECT_INGRESS"


def direct_environment(port: int) -> dict[str, str]:
    """For the processes of a Ray: its ingress, of which there is one, listens at `port`."""
    return {
        DIRECT: "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(port + 1),  # not included
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",  # no load balancer has to be told first
        "RAY_SERVE_PORT_QUARANTINE_S": "0",  # an ingress that died comes back to the port, not to another
    }


def port_of_proxy(endpoint: int, other: int) -> int:
    """Where Serve's proxy listens beside an ingress at `endpoint`: at `other`; there itself, if Serve lets none.

    Called when the process has its `direct_environment`: Serve reads it on its import.
    """
    return other if all_there(DOOR, without="a proxy passes each token of an answer on") else endpoint


def listen_again() -> None:
    """Called in a replica before it is ready: it may listen where the one before it has just died.

    Serve's own option for that also lets two of them listen at once.
    """
    if os.environ.get(DIRECT) != "1":
        return
    if not patches_wanted() or not all_there(*NAMES, without="an ingress may find the port taken by one that died"):
        return
    http_util: Any = importlib.import_module("ray.serve._private.http_util")
    replica: Any = importlib.import_module("ray.serve._private.replica")
    start = http_util.start_asgi_http_server

    async def start_again(app: Any, http_options: Any, **more: Any) -> Any:
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                return await start(app, http_options, **{**more, "enable_so_reuseport": True})
            except RuntimeError as error:  # told of it, Serve would never give the port out again
                busy = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
                if not busy or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(RETRY_S)

    http_util.set_socket_reuse_port = _reuse_address
    replica.start_asgi_http_server = start_again


def _reuse_address(listening: socket.socket) -> None:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
