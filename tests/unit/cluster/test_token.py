"""Which token a process sends to a cluster, when it has used another Ray before."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, socket
from ray._raylet import AuthenticationTokenLoader
from raytune_ft.cluster.connection import reach

os.environ["RAY_AUTH_TOKEN"] = "b" * 64
with socket.create_server(("127.0.0.1", 0)) as server:
    before = AuthenticationTokenLoader.instance().get_token_for_http_header()["authorization"]
    reach(f"http://127.0.0.1:{server.getsockname()[1]}")
    print(before[-1], AuthenticationTokenLoader.instance().get_token_for_http_header()["authorization"][-1])
"""


def test_the_token_that_is_given_now_is_sent() -> None:
    loaded = "import os; os.environ.update(RAY_AUTH_MODE='token', RAY_AUTH_TOKEN='a' * 64)\n"
    used = "from ray._raylet import AuthenticationTokenLoader as L; L.instance().get_token_for_http_header()\n"
    command = [sys.executable, "-c", loaded + used + SCRIPT]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.split() == ["a", "b"]
