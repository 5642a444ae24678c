"""Finds signs that a request on loopback was forwarded from another machine; used where no API key is set.

A proxy on the same machine connects from loopback and may use a loopback name as the Host, as nginx's plain
`proxy_pass` does. Only what it adds or leaves out gives it away. Each proxy adds headers of its own, so only headers
that clients are known to send are accepted. A proxy that passes HTTP/1.1 or bytes on unchanged can't be detected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from raytune_ft.serving.settings import is_loopback

# Headers of RFC 9110 except those that proxies add, and of browsers (also Sec-*), OpenAI's clients, request ids
# and W3C traces.
_SENT = re.compile(
    rb"host|connection|keep-alive|upgrade|http2-settings|te|trailer|transfer-encoding|expect|date|range|if-[a-z-]+"
    rb"|user-agent|accept(-[a-z]+)*|content-[a-z]+|cache-control|pragma|authorization|api-key|x-api-key|cookie"
    rb"|origin|referer|http-referer|x-title|x-requested-with|priority|dnt|save-data|upgrade-insecure-requests|sec-[a-z-]+"
    rb"|openai-[a-z-]+|x-stainless-[a-z-]+|idempotency-key"
    rb"|x-request-id|x-session-id|traceparent|tracestate|baggage|sentry-trace"
)
_VERSIONS = (
    "1.1",
    "2",
)  # nginx before 1.29.7 speaks HTTP/1.0 to its upstream; OpenAI's clients, browsers and curl don't
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]@/]*))(?::\d*)?")
_SITES = (b"same-origin", b"same-site", b"none")


def sign_of_elsewhere(scope: Mapping[str, Any]) -> str | None:
    """Returns the sign that a request did not come from a program on this machine, or None.

    Args:
        scope: The request's ASGI scope.
    """
    if (version := scope.get("http_version", "1.1")) not in _VERSIONS:
        return f"it speaks HTTP/{str(version)[:8]}"
    headers = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
    hosts = [value for name, value in headers if name == b"host"]
    # A web page may have its own name resolved to loopback (DNS rebinding). The Host header, which browsers always
    # send, gives it away.
    if len(hosts) > 1 or not all(map(_names_loopback, hosts)):
        return "its Host is not this machine's"
    for name, value in headers:
        if not _SENT.fullmatch(name):
            return f"a proxy may have added its header {name[:80].decode('latin-1')!a}"
        # A foreign web page can send forms and plain text without a CORS preflight; these are refused too.
        if (name == b"sec-fetch-site" and value not in _SITES) or (name == b"origin" and not _is_here(value)):
            return "a web page of elsewhere sent it"
    return None


def _names_loopback(host: bytes) -> bool:
    found = _HOST.fullmatch(host.decode("latin-1"))
    return found is not None and is_loopback(found[1] or found[2])


def _is_here(origin: bytes) -> bool:
    try:
        return is_loopback(urlsplit(origin.decode("latin-1")).hostname or "")
    except ValueError:
        return False
