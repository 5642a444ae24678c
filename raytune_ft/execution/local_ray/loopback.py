"""Starts a local Ray all of whose sockets listen on loopback. Read against ray 2.60.0.

On Linux Ray turns 127.0.0.1 back into the machine's own address and then listens on every interface; on macOS it stays
on loopback. Its switch for the latter is an environment variable that is read when ray is first imported.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from raytune_ft.execution.local_ray.token import read_token_anew
from raytune_ft.private_names import all_there

LOOPBACK_ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # the processes that ray.init starts read it
NAMES = ("ray._private.ray_constants:ENABLE_RAY_CLUSTER",)
REPLICA_NAMES = ("ray.serve._private.replica:add_port_to_grpc_server", "ray._common.tls_utils:add_port_to_grpc_server")
OPEN = "its ports may be open to the network, and its token alone guards them"


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for processes that are started in the block, and restores the old ones after it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def ray_on_loopback() -> Iterator[None]:
    """Makes `ray.init` in this block start a Ray that only this machine can reach, even if ray was imported before."""
    if not all_there(*NAMES, without=OPEN):
        read_token_anew()
        with environment(LOOPBACK_ENVIRONMENT):
            yield
        return
    constants: Any = importlib.import_module("ray._private.ray_constants")
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        read_token_anew()
        with environment(LOOPBACK_ENVIRONMENT):
            yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def keep_replica_on_loopback() -> None:
    """Keeps a Serve replica's gRPC server on loopback in such a Ray; is called in the replica before it is ready.

    Serve binds it to every interface (serve/_private/replica.py); Ray's token guards it, but nobody needs to reach it.
    """
    if any(os.environ.get(name) != value for name, value in LOOPBACK_ENVIRONMENT.items()):
        return
    if not all_there(*REPLICA_NAMES, without=OPEN):
        return
    replica: Any = importlib.import_module("ray.serve._private.replica")
    replica.add_port_to_grpc_server = _add_loopback_port


def _add_loopback_port(server: Any, address: str) -> Any:
    tls: Any = importlib.import_module("ray._common.tls_utils")
    return tls.add_port_to_grpc_server(server, address.replace("[::]", "127.0.0.1"))
