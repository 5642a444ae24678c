"""Without a key: what a proxy on this machine sends to the door, on a real socket."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import uvicorn

from raytune_ft.serving.gateway.forwarded import sign_of_elsewhere
from raytune_ft.serving.gateway.guard import Guard
from raytune_ft.serving.settings import API_KEY_VARIABLE, ServeArgs

BODY = b'{"prompt": "x"}'


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture(scope="module", params=["h11", "httptools"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A door without a key, served as Ray serves it, by either of uvicorn's parsers."""
    with pytest.MonkeyPatch.context() as patch, socket.socket() as listening:
        patch.delenv(API_KEY_VARIABLE, raising=False)
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            Guard(app, args=ServeArgs(base_model="x")), http=request.param, lifespan="off", log_level="error"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        deadline = time.monotonic() + 50
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(50)


def ask(port: int, version: str, *headers: str, body: bytes = BODY) -> tuple[int, Any]:
    """Status and JSON of a request as its bytes are given; `Host` is what a proxy's upstream is called."""
    head = [
        f"POST /v1/completions HTTP/{version}", f"Host: 127.0.0.1:{port}", "Content-Type: application/json",
        f"Content-Length: {len(body)}", *headers,
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", port), timeout=50) as connection:
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        received = b""
        while b"\r\n\r\n" not in received or not received.endswith(b"}"):
            piece = connection.recv(4096)
            if not piece:
                break
            received += piece
    first, _, rest = received.partition(b"\r\n")
    return int(first.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])


def test_a_program_on_this_machine_is_answered(port: int) -> None:
    assert ask(port, "1.1", "Connection: close")[0] == 200
    assert ask(port, "1.1", "User-Agent: curl/8.5.0", "Accept: */*")[0] == 200
    own_page = ("Origin: http://127.0.0.1:8000", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Cookie: a=b")
    assert ask(port, "1.1", *own_page, 'Sec-CH-UA: "x"', "Accept-Language: de", "Accept-Encoding: gzip")[0] == 200


def test_an_openai_client_is_answered(port: int) -> None:
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1", api_key="none", organization="o", project="p", max_retries=0
    )
    with client:
        given = {"x-request-id": "r-1", "traceparent": "00-1-2-01"}
        answer = client.completions.with_raw_response.create(model="x", prompt="x", extra_headers=given, timeout=50)
    assert answer.status_code == 200


@pytest.mark.parametrize("version", ["0.9", "1.0", "1", "HTTP/1.0", "3", ""])
def test_versions_of_http_that_no_client_speaks_are_signs(version: str) -> None:
    assert sign_of_elsewhere({"http_version": version, "headers": []})


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1:8000", True), ("localhost", True), ("[::1]:80", True), ("[::1]evil.com", False), ("[::1", False),
     ("localhost:80@evil", False), ("localhost.evil", False), ("", False), ("localhost:x", False)],
)  # fmt: skip
def test_a_host_is_read_whole(host: str, here: bool) -> None:
    found = sign_of_elsewhere({"http_version": "2", "headers": [(b"Host", host.encode())]})
    assert (found is None) == here
    assert sign_of_elsewhere({"http_version": "2", "headers": [(b"host", b"localhost"), (b"host", host.encode())]})


def test_nginx_as_it_is_by_default_is_refused(port: int) -> None:
    """Fault 41: `proxy_pass http://127.0.0.1:8000;` and nothing else, of nginx before 1.29.7."""
    status, body = ask(port, "1.0", "Connection: close", "User-Agent: Mozilla/5.0")
    assert (status, body["error"]["code"]) == (401, "no_api_key")


@pytest.mark.parametrize(
    "header",
    [
        "Via: 1.1 proxy.example", "via: 1.0 x", "Forwarded: for=10.0.0.9", "X-Forwarded-For: 10.0.0.9",
        "X-Forwarded-Host: models.example", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443",
        "X-Forwarded-Server: apache.example", "X-Forwarded-Prefix: /llm", "X-Real-IP: 10.0.0.9",
        "X-Original-Forwarded-For: 10.0.0.9", "CF-Connecting-IP: 10.0.0.9", "True-Client-IP: 10.0.0.9",
        "X-Client-IP: 10.0.0.9", "X-Cluster-Client-IP: 10.0.0.9", "Fastly-Client-IP: 10.0.0.9",
        "X-Envoy-External-Address: 10.0.0.9", "X-Envoy-Attempt-Count: 1", "X-Original-URL: /v1", "CDN-Loop: cloudflare",
        "Tailscale-User-Login: alice", "X-Amzn-Trace-Id: Root=1-2", "Cf-Ray: 1", "Max-Forwards: 9",
        "X-ProxyUser-Ip: 10.0.0.9", "Proxy-Connection: keep-alive", "X-Azure-ClientIP: 10.0.0.9", "X_Real_IP: 10.0.0.9",
        "X-Remote-IP: 10.0.0.9", "X-Remote-Addr: 10.0.0.9", "Remote-Addr: 10.0.0.9", "X-Varnish: 1",
        "X-Request-Start: t=1", "X-Scheme: https", "Front-End-Https: on", "X-ARR-LOG-ID: 1", "X-ARR-SSL: 1",
        "X-Cloud-Trace-Context: 1/2", "X-Amz-Cf-Id: 1", "X-Appengine-Country: DE", "X-Vercel-Id: 1",
        "X-Nginx-Proxy: true", "X-Auth-Request-User: alice", "X-Remote-User: alice", "Remote-User: alice",
        "X-Goog-Authenticated-User-Email: a@x", "X-MS-Client-Principal: 1", "X-SSL-Client-Verify: SUCCESS",
        "Surrogate-Capability: x=1", "Early-Data: 1", "A-Header-That-Nobody-Knows: 1",
        "Sec-Fetch-Site: cross-site", "Origin: https://evil.example", "Origin: null", "Origin: http://[",
    ],
)  # fmt: skip
def test_a_header_that_a_proxy_adds_is_refused(port: int, header: str) -> None:
    """Fault 41."""
    status, body = ask(port, "1.1", header)
    assert (status, body["error"]["code"]) == (401, "no_api_key")


def test_the_refusal_says_what_to_do(port: int) -> None:
    assert API_KEY_VARIABLE in ask(port, "1.0")[1]["error"]["message"]
    assert "its header 'x-varnish'" in ask(port, "1.1", "X-Varnish: 1")[1]["error"]["message"]


def test_with_a_key_a_proxy_may_be_whatever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setenv(API_KEY_VARIABLE, "a-good-long-key")
    door, sent = Guard(app, args=ServeArgs(base_model="x")), []

    async def receive() -> Any:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", b"Bearer a-good-long-key"), (b"via", b"1.1 x"), (b"x-forwarded-for", b"10.0.0.9")]
    scope = {"type": "http", "http_version": "1.0", "client": ("127.0.0.1", 1), "method": "POST"}
    asyncio.run(door({**scope, "path": "/v1/completions", "headers": headers}, receive, send))
    assert sent[0]["status"] == 200
