"""Drops Ray's cached authentication token in this process. Uses private names, read against ray 2.60.0."""

from __future__ import annotations

import importlib
from typing import Any

from raytune_ft.private_names import all_there

NAMES = ("ray._raylet:Config.initialize", "ray._raylet:AuthenticationTokenLoader.reset_cache")


def read_token_anew() -> None:
    """Makes Ray's next connection read the token anew, and whether tokens are required.

    To be called where a process may have used another Ray before: Ray reads both only once, at its first import and at
    its first connection, and the next cluster refuses the first one's token. While Ray is in use nothing changes.
    """
    ray: Any = importlib.import_module("ray")
    raylet: Any = importlib.import_module("ray._raylet")
    if ray.is_initialized():
        return
    if not all_there(*NAMES, without="a second Ray in one process may refuse the token of the first"):
        return
    raylet.Config.initialize("")  # comes first: in the old mode, threads that still drain would look for a token
    raylet.AuthenticationTokenLoader.instance().reset_cache()
