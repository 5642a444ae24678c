"""Which token a process sends to a Ray, when it has used another one before."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, socket
os.environ["RAY_AUTH_TOKEN"] = "a" * 64
import ray
from ray._raylet import AuthenticationTokenLoader
from raytune_ft.cluster.connection import reach
from raytune_ft.execution.local_ray.loopback import ray_on_loopback

def token():
    return AuthenticationTokenLoader.instance().get_token_for_http_header().get("authorization", "none")

before = token()
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="b" * 64)
{connects}
print(before[-1], token()[-1])
"""
SUBMITS = """
with socket.create_server(("127.0.0.1", 0)) as server:
    reach(f"http://127.0.0.1:{server.getsockname()[1]}")
"""
STARTS_ITS_OWN = """
with ray_on_loopback():
    pass
"""


@pytest.mark.parametrize("connects", [SUBMITS, STARTS_ITS_OWN], ids=["submits", "starts its own"])
@pytest.mark.parametrize(("mode", "first"), [("token", "a"), ("disabled", "e")])
def test_the_token_that_is_given_now_is_sent(connects: str, mode: str, first: str) -> None:
    """Also where Ray was imported while no token was asked for."""
    command = [sys.executable, "-c", SCRIPT.replace("{connects}", connects)]
    environment = {**os.environ, "RAY_AUTH_MODE": mode}
    found = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True, env=environment)
    assert found.stdout.split() == [first, "b"]
