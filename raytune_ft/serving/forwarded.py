"""Whether a request shows that a proxy brought it: what it can show, for an endpoint without a key.

A proxy on the same machine connects from loopback and may call the endpoint by a loopback name, as nginx's plain
`proxy_pass` does; then only what it adds or leaves out gives it away. One that passes HTTP/1.1 on as it came, or bytes
alone, can't be seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# RFC 9110 (Via, Max-Forwards), RFC 7239 (Forwarded), RFC 8586 (CDN-Loop), and what products add by default.
_ADDED = re.compile(
    rb"via|max-forwards|cdn-loop|.*forwarded.*|.*(client|connecting|real|user)-?ip"
    rb"|(x-original|x-envoy|x-amzn|x-azure|cf|fastly|tailscale|proxy)-.*"
)


def came_through_proxy(scope: Mapping[str, Any]) -> bool:
    """Whether the request of an ASGI scope is one that no program on this machine sends by itself.

    HTTP/1.0 counts: nginx before 1.29.7 speaks it to what is behind it, and OpenAI's clients, browsers and curl don't.
    """
    if scope.get("http_version", "1.1") == "1.0":
        return True
    return any(_ADDED.fullmatch(name.lower()) for name, _ in scope["headers"])
