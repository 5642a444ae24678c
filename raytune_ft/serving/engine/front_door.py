"""Lets the ingress replica of a local endpoint listen on the endpoint's port itself, without Serve's HTTP proxy.

Serve's proxy is a Python process that every request and every token passes through. On two cores it adds as much to
the time to first token as everything else together. Read against ray 2.60.0, which can let ingress replicas listen
("direct ingress").
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
"""How long a replica waits for the port and how often it tries; the replica before it may be slow to end."""
NAMES = (
    "ray.serve._private.http_util:start_asgi_http_server",
    "ray.serve._private.http_util:set_socket_reuse_port",
    "ray.serve._private.replica:start_asgi_http_server",
)
DOOR = "ray.serve._private.constants:RAY_SERVE_ENABLE_DIRECT_INGRESS"
DIRECT = "RAY_SERVE_ENABLE_DIRECT_INGRESS"


def direct_environment(port: int) -> dict[str, str]:
    """Returns environment variables for Ray's processes that make its single ingress replica listen at `port`."""
    return {
        DIRECT: "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(port + 1),  # exclusive
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",  # there is no load balancer to wait for
        "RAY_SERVE_PORT_QUARANTINE_S": "0",  # a restarted ingress must get the same port again
    }


def port_of_proxy(endpoint: int, other: int) -> int:
    """Returns the port for Serve's proxy.

    That is `other` where the ingress itself listens at `endpoint`, and `endpoint` where this Ray can't do that. Call it
    after `direct_environment` is set, because Serve reads the variables when it is imported.
    """
    return other if all_there(DOOR, without="a proxy passes each token of an answer on") else endpoint


def listen_again() -> None:
    """Patches Serve so that a restarted ingress replica can listen on the port of the one that just died.

    It is called in the replica before that is ready. Serve's own option for this (SO_REUSEPORT) would also let two
    replicas listen at once.
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
            except RuntimeError as error:  # if Serve saw it, it would never give this port out again
                busy = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
                if not busy or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(RETRY_S)

    http_util.set_socket_reuse_port = _reuse_address
    replica.start_asgi_http_server = start_again


def _reuse_address(listening: socket.socket) -> None:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
