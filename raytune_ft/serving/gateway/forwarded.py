"""Whether a request shows that no program on this machine sent it by itself: what it can show, to a door without a key.

A proxy on the same machine connects from loopback and may call the endpoint by a loopback name, as nginx's plain
`proxy_pass` does; then only what it adds or leaves out gives it away. Each product adds headers of its own, so those
pass that clients send, and no other. A proxy that passes HTTP/1.1 on as it came, or bytes alone, can't be seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from raytune_ft.serving.settings import is_loopback

# RFC 9110 without what proxies add, browsers' (also Sec-*), OpenAI's clients', an id, and W3C's of traces.
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
)  # nginx before 1.29.7 speaks 1.0 to what is behind it; OpenAI's clients, browsers and curl don't
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]@/]*))(?::\d*)?")
_SITES = (b"same-origin", b"same-site", b"none")


def sign_of_elsewhere(scope: Mapping[str, Any]) -> str | None:
    """What in the request of an ASGI scope no program on this machine sends by itself, or None."""
    if (version := scope.get("http_version", "1.1")) not in _VERSIONS:
        return f"it speaks HTTP/{str(version)[:8]}"
    headers = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
    hosts = [value for name, value in headers if name == b"host"]
    # A page in this machine's browser can have its own name resolved to loopback; its Host header gives it away.
    if len(hosts) > 1 or not all(map(_names_loopback, hosts)):  # it can't leave it out: browsers always send it
        return "its Host is not this machine's"
    for name, value in headers:
        if not _SENT.fullmatch(name):
            return f"a proxy may have added its header {name[:80].decode('latin-1')!a}"
        # Nor may a page of elsewhere send what needs no leave, a form or plain text.
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
