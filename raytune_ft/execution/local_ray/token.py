"""Ray's authentication token in this process. Read against ray 2.60.0, of whose cache it takes private handles."""

from __future__ import annotations

import importlib
from typing import Any

from raytune_ft.private_names import all_there

NAMES = ("ray._raylet:Config.initialize", "ray._raylet:AuthenticationTokenLoader.reset_cache")


def read_token_anew() -> None:
    """Ray's next connection reads the token that is given now, and whether tokens are asked for.

    To be called where a process may have used another Ray before: Ray reads both once, on its first import and at its
    first connection, and the next cluster refuses the first one's token. While a Ray is in use nothing changes.
    """
    ray: Any = importlib.import_module("ray")
    raylet: Any = importlib.import_module("ray._raylet")
    if ray.is_initialized():
        return
    if not all_there(*NAMES, without="a second Ray in one process may refuse the token of the first"):
        return
    raylet.Config.initialize("")  # first: with the old mode, threads that still drain would look for a token
    raylet.AuthenticationTokenLoader.instance().reset_cache()
