"""The ingress at the endpoint's port, without a proxy before it."""

from __future__ import annotations

import asyncio
import errno
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from raytune_ft.serving.engine import front_door
from raytune_ft.serving.engine.front_door import DIRECT, direct_environment, listen_again


def test_the_only_port_that_ray_may_give_the_ingress_is_the_endpoints() -> None:
    given = direct_environment(8000)
    least, most = (int(given[f"RAY_SERVE_DIRECT_INGRESS_{end}_HTTP_PORT"]) for end in ("MIN", "MAX"))
    assert list(range(least, most)) == [8000]


def test_ray_still_reads_what_it_is_told() -> None:
    """Of another version, these names may mean nothing."""
    from ray.serve._private import constants

    for name in direct_environment(8000):
        assert hasattr(constants, name), name


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Its two modules; a server is started as Ray does it, and keeps what it was started with."""
    started: list[tuple[str, bool]] = []
    refusals: list[OSError] = []

    async def start(app: str, options: object, *, event_loop: object, enable_so_reuseport: bool = False) -> str:
        if refusals:
            raise RuntimeError("Failed to bind") from refusals.pop()
        started.append((app, enable_so_reuseport))
        return "server"

    http_util = SimpleNamespace(start_asgi_http_server=start, set_socket_reuse_port=None)
    replica = SimpleNamespace(start_asgi_http_server=start, started=started, refusals=refusals)
    found = {"ray.serve._private.http_util": http_util, "ray.serve._private.replica": replica}
    monkeypatch.setattr(front_door, "importlib", SimpleNamespace(import_module=found.__getitem__))
    return {"http_util": http_util, "replica": replica}


def test_a_replica_listens_where_another_has_just_died(ray: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECT, "1")
    listen_again()
    start = ray["replica"].start_asgi_http_server
    assert asyncio.run(start("app", None, event_loop=None, enable_so_reuseport=False)) == "server"
    assert ray["replica"].started == [("app", True)]
    with socket.socket() as listening:
        ray["http_util"].set_socket_reuse_port(listening)
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert not listening.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)  # two at once would share the requests


def test_behind_a_proxy_nothing_is_changed(ray: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DIRECT, raising=False)
    listen_again()
    assert ray["http_util"].set_socket_reuse_port is None


def test_a_port_that_is_still_taken_is_waited_for(ray: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECT, "1")
    monkeypatch.setattr(front_door, "RETRY_S", 0.01)
    listen_again()
    start, refusals = ray["replica"].start_asgi_http_server, ray["replica"].refusals
    refusals += [OSError(errno.EADDRINUSE, "in use")] * 3
    assert asyncio.run(start("app", None, event_loop=None)) == "server"
    for refusal, wait_s in ((OSError(errno.EACCES, "no"), 20.0), (OSError(errno.EADDRINUSE, "in use"), -1.0)):
        monkeypatch.setattr(front_door, "BUSY_S", wait_s)
        refusals.append(refusal)
        with pytest.raises(RuntimeError):
            asyncio.run(start("app", None, event_loop=None))
