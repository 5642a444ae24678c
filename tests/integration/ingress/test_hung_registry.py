"""A registry on storage that answers nothing: streams, requests and `/health` go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raytune_ft.serving.models.registry_view import RegistryView


class Mount:
    """Where the registry lies; every read of it waits while it hangs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers, self.waited_for = threading.Event(), threading.Event()
        self.answers.set()
        for name in ("aliases", "past_champions", "traffic", "manifest", "whole_versions"):
            monkeypatch.setattr(RegistryView, name, self._waiting(getattr(RegistryView, name)))

    def _waiting(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def waiting(*arguments: Any) -> Any:
            if not self.answers.is_set():
                self.waited_for.set()
            assert self.answers.wait(100)
            return read(*arguments)

        return waiting


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    mount = Mount(monkeypatch)
    yield mount
    mount.answers.set()


def in_time(work: Callable[[], Any]) -> Any:
    """What it gives, if it does."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(30)
    assert found, "it hangs"
    return found[0]


def test_a_mount_that_hangs_stops_neither_streams_nor_requests_nor_health(serve: Any, ask: Any, mount: Mount) -> None:
    """Fault 37."""
    client = serve()
    assert ask(client).json()["model"] == "base:movies@1"
    mount.answers.clear()
    assert in_time(lambda: client.get("/health")).status_code == 200
    for model in ("base", "base:movies", "base:movies@challenger", "base:movies@2"):
        assert in_time(lambda model=model: ask(client, model)).status_code == 200
    assert "[DONE]" in in_time(lambda: ask(client, stream=True)).text
    assert "base:movies" in in_time(lambda: client.get("/v1/models")).text
    assert in_time(lambda: ask(client, "base:movies@9")).status_code == 404
    assert mount.waited_for.wait(30)
    ages = [in_time(lambda: client.get("/health")).json()["registry_age_s"] for _ in range(2)]
    assert ages == sorted(ages) and ages[0] >= 1.0, "two requests above waited a second for a look at it"
    mount.answers.set()


def test_what_was_moved_meanwhile_counts_when_it_answers_again(
    serve: Any, registry: Any, ask: Any, mount: Mount, wait_for: Any
) -> None:
    client = serve()
    ask(client)
    mount.answers.clear()
    registry.set_alias("movies", "champion", 2)
    assert in_time(lambda: ask(client)).json()["model"] == "base:movies@1"
    mount.answers.set()
    wait_for(lambda: ask(client).json()["model"] == "base:movies@2")
