"""The guard inside a real Ray Serve, behind its TLS proxy, before a stub in the engine's place."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request  # where FastAPI reads the handlers' types
from starlette.responses import StreamingResponse

from raytune_ft.execution.local_ray.loopback import ray_on_loopback
from raytune_ft.serving.gateway.keys import create_key, revoke_key
from raytune_ft.serving.records.records import read_records
from raytune_ft.serving.settings import API_KEY_VARIABLE, Limits, ServeArgs

CANARY = "canary-4711"
PIECES, APART_S = 6, 0.5


def stub_app(args: ServeArgs) -> Any:
    """An application with FastAPI's own docs, so that there is something to keep out of reach."""
    from ray import serve

    from raytune_ft.serving.gateway.guard import Guard

    app = FastAPI()
    app.add_middleware(Guard, args=args)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/completions")
    async def completions(request: Request) -> Any:
        body = await request.json()
        if body.get("fail"):
            raise RuntimeError(f"can't answer {body['prompt']}")
        if not body.get("stream"):
            return {"text": "answer"}

        async def pieces() -> Any:
            for number in range(body.get("pieces", PIECES)):
                yield f"data: {number}\n\n"
                await asyncio.sleep(APART_S)

        return StreamingResponse(pieces(), media_type="text/event-stream")

    @serve.deployment(ray_actor_options={"num_cpus": 0})
    @serve.ingress(app)
    class Stub:
        pass

    return Stub.bind()


@contextmanager
def serving(args: ServeArgs, certificate: Path, key: Path, temporary: str) -> Iterator[None]:
    import ray
    from ray import serve

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with ray_on_loopback():
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=temporary)
    try:
        tls = {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
        serve.start(proxy_location="HeadOnly", http_options={"host": args.host, "port": args.port, **tls})
        serve.run(stub_app(args), name="door", route_prefix="/")
        yield
    finally:
        serve.shutdown()
        ray.shutdown()
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Path, Path]:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


def test_the_door_of_a_real_serve(
    tmp_path: Path, tls: tuple[Path, Path], free_ports: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 32."""
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    keys = tmp_path / "keys.json"
    alice, bob = create_key(keys, "alice"), create_key(keys, "bob")
    args = ServeArgs(
        base_model="stub",
        port=free_ports(1)[0],
        api_keys_file=str(keys),
        log_dir=str(tmp_path / "log"),
        limits=Limits(max_concurrent_per_key=2, body_timeout_s=1.0),
    )
    with tempfile.TemporaryDirectory(prefix="door-") as temporary:
        with serving(args, *tls, temporary):
            context = ssl.create_default_context(cafile=str(tls[0]))
            url = f"https://127.0.0.1:{args.port}"
            with httpx.Client(base_url=url, verify=context, timeout=30) as client:
                strangers_stay_out(client)
                client.headers["authorization"] = f"Bearer {alice}"
                only_the_wanted_routes_are_there(client)
                an_answer_has_one_id_and_takes_feedback_from_its_own_key(client, bob)
                an_error_inside_says_nothing(client)
                a_stream_comes_piece_by_piece(client)
                places_are_freed_by_clients_that_leave(client)
                large_bodies_are_refused(client)
                a_trickling_body_is_cut_off(context, args.port, alice)
                revoke_key(keys, "alice")
                assert within(5, lambda: post(client).status_code == 401)
        written = [path for root in (temporary, args.log_dir) for path in Path(str(root)).rglob("*") if path.is_file()]
        text = "".join(path.read_text(errors="replace") for path in written)
    assert CANARY not in text and alice not in text and bob not in text
    statuses = {record.status for record in read_records(Path(str(args.log_dir)))}
    assert {401, 404, 405, 408, 413, 429} <= statuses


def post(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/completions", json={"prompt": CANARY, **body})


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def strangers_stay_out(client: httpx.Client) -> None:
    assert client.get("/health").status_code == 200
    for headers in ({}, {"authorization": "Bearer rft_wrong"}):
        refused = client.post("/v1/completions", json={"prompt": CANARY}, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert client.get("/docs").status_code == 401


def only_the_wanted_routes_are_there(client: httpx.Client) -> None:
    for path in ("/docs", "/openapi.json", "/redoc", "/metrics", "/api/jobs/", "/api/serve/applications/"):
        refused = client.get(path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found"), path
    assert client.get("/v1/completions").status_code == 405
    assert client.get("/-/routes").json() == {"/": "door"}  # Serve's own, which docs/endpoint_security.md tells of


def an_answer_has_one_id_and_takes_feedback_from_its_own_key(client: httpx.Client, other: str) -> None:
    answer = post(client)
    assert answer.json() == {"text": "answer"}
    [request] = answer.headers.get_list("x-request-id")
    body = {"request_id": request, "score": 1}
    assert client.post("/v1/feedback", json=body, headers={"authorization": f"Bearer {other}"}).status_code == 404
    assert client.post("/v1/feedback", json=body).json() == {"object": "feedback", "request_id": request, "score": 1.0}


def an_error_inside_says_nothing(client: httpx.Client) -> None:
    failed = post(client, fail=True)
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal_error")
    assert CANARY not in failed.text


def a_stream_comes_piece_by_piece(client: httpx.Client) -> None:
    with client.stream("POST", "/v1/completions", json={"prompt": CANARY, "stream": True}) as answer:
        times = [time.monotonic() for line in answer.iter_lines() if line.startswith("data: ")]
    assert len(times) == PIECES
    assert times[-1] - times[0] > (PIECES - 1) * APART_S / 2


def places_are_freed_by_clients_that_leave(client: httpx.Client) -> None:
    long = {"prompt": CANARY, "stream": True, "pieces": 1000}
    with client.stream("POST", "/v1/completions", json=long), client.stream("POST", "/v1/completions", json=long):
        refused = post(client)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(refused.headers["retry-after"]) >= 1
    assert within(10, lambda: post(client).status_code == 200)


def large_bodies_are_refused(client: httpx.Client) -> None:
    refused = client.post("/v1/completions", content=b" " * 10_000_000)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")


def a_trickling_body_is_cut_off(context: ssl.SSLContext, port: int, key: str) -> None:
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 100\r\n\r\n"
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        connection.sendall(head.encode() + b"{")
        received = b""
        while piece := connection.recv(4096):  # ends: the server closes
            received += piece
    assert received.startswith(b"HTTP/1.1 408")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
