"""Whether endpoints that run are said to lack room for what was promoted."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.promotion.endpoint_capacity import warn_of_room
from raytune_ft.registry.store import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """`movies`: version n has rank (8, 4, 16, 64)[n - 1]; 5 is merged."""
    for version, rank in enumerate((8, 4, 16, 64, 0), start=1):
        directory = tmp_path / "movies" / str(version)
        directory.mkdir(parents=True)
        manifest = {
            "schema": 1, "adapter": "movies", "version": version, "base_model": "base", "base_sha256": "same",
            "lora_rank": rank, "merged": not rank, "data_fingerprint": "f", "form": "messages", "study": "s",
            "trial": "0", "metrics": {}, "created": "2026", "command": "promote", "files": {},
        }  # fmt: skip
        (directory / "manifest.json").write_text(json.dumps(manifest))
    return Registry(tmp_path)


def said(registry: Registry, version: int, previous: int | None, url: str | None = None) -> list[str]:
    lines: list[str] = []
    warn_of_room(registry, "movies", version, previous, url, lines.append)
    return lines


@pytest.mark.parametrize(
    ("version", "previous", "warned"),
    [(3, 1, True), (4, 3, True), (4, None, True), (4, 5, True), (4, 9, True),
     (2, 1, False), (1, 2, False), (3, None, False), (5, 1, False)],
)  # fmt: skip
def test_a_step_up_in_rank_says_what_to_check(
    registry: Registry, version: int, previous: int | None, warned: bool
) -> None:
    lines = said(registry, version, previous)
    assert len(lines) == warned
    assert all("goes on with the version of before" in line and "GET /health" in line for line in lines)


@pytest.fixture
def endpoint() -> Iterator[tuple[str, dict[str, Any]]]:
    """Its URL, and the facts that its list of models tells of the base."""
    facts: dict[str, Any] = {"max_lora_rank": 8}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            models = [{"id": "base", "object": "model", "created": 1, "owned_by": "x", "metadata": facts}]
            self.send_response(200 if self.path == "/v1/models" else 404)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"object": "list", "data": models}).encode())

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", facts
    server.shutdown()
    server.server_close()


def test_an_endpoint_that_is_asked_says_whether_it_has_room(
    registry: Registry, endpoint: tuple[str, dict[str, Any]]
) -> None:
    url, facts = endpoint
    [line] = said(registry, 3, 1, url)
    assert f"{url} takes rank 8 at most and movies@3 has 16" in line and "max_lora_rank 16" in line
    assert said(registry, 1, 3, url) == []
    facts["max_lora_rank"] = 32
    assert said(registry, 3, 1, url) == []
    facts.clear()
    assert "does not say what max_lora_rank it has" in said(registry, 3, 1, url)[0]


def test_one_that_is_not_there_takes_nothing_back(registry: Registry) -> None:
    assert "could not be asked" in said(registry, 3, 1, "http://127.0.0.1:9/v1")[0]
