"""Connects to the dashboard of a running Ray cluster: checks the URL, sets the token, shortens errors to one line."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.execution.local_ray.token import read_token_anew

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
CONNECT_TIMEOUT_S = 5.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def reach(address: str) -> None:
    """Checks that a server listens at the dashboard's URL, and makes Ray's clients send the configured token.

    Raises:
        InputError: It is not a URL, or no server listens there.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("--address", f"{address!r} is not the URL of a dashboard", f"write it as {DEFAULT_ADDRESS}")
    port = parts.port or (443 if parts.scheme == "https" else 8265)
    unreachable = InputError(
        address,
        "no Ray dashboard answers",
        "start a cluster, or forward its port: kubectl port-forward service/HEAD 8265, ssh -L 8265:127.0.0.1:8265 HEAD",
    )
    try:  # Ray's client would wait for minutes
        socket.create_connection((parts.hostname, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        raise unreachable from None
    _use_token(parts.hostname)


def _use_token(host: str) -> None:
    """Enables Ray's token authentication if a token is configured, or if this machine's own Ray has created one."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    own = host in LOOPBACK and (Path.home() / ".ray" / "auth_token").is_file()
    if given or own:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        read_token_anew()


@contextmanager
def request_errors(address: str) -> Iterator[None]:
    """Turns errors of Ray's REST clients into InputErrors with a remedy."""
    import requests
    from ray.exceptions import AuthenticationError

    remedy = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token"
    try:
        yield
    except AuthenticationError as error:
        required = "required" in str(error)
        what = "the cluster asks for a token (401)" if required else "the cluster refuses this token (403)"
        raise InputError(address, what, remedy) from error
    except (ConnectionError, requests.exceptions.RequestException) as error:
        raise InputError(address, f"the request failed ({error})", "check that it is a Ray dashboard") from error
    except (RuntimeError, ValueError) as error:
        if isinstance(error, RaytuneError):
            raise
        raise InputError(address, f"Ray refused the request ({error})", "") from error
