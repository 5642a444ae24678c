"""A registry in a bucket while uploads break off, holders die and the server is gone or hangs: nothing is lost."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.errors import RaytuneError
from raytune_ft.registry.bucket import remote
from raytune_ft.registry.bucket.bucket import Bucket, ConflictError, UnreachableError
from raytune_ft.registry.bucket.lease import Lease
from raytune_ft.registry.bucket.remote import RemoteRegistry
from raytune_ft.registry.journal import read_journal
from raytune_ft.registry.store import Registry

Node = Callable[..., RemoteRegistry]
Add = Callable[[Registry], int]


def test_a_number_whose_upload_broke_off_is_never_seen_and_never_given_again(
    node: Node, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = node("writer"), node("reader")
    add(writer)
    with monkeypatch.context() as patch:

        def fail(bucket: Bucket, key: str, path: Path) -> None:
            raise UnreachableError(f"{key}: gone")

        patch.setattr(Bucket, "upload", fail)
        with pytest.raises(UnreachableError):
            add(writer)
    assert writer.versions("movies") == reader.versions("movies") == [1]
    assert add(reader) == 3
    assert writer.versions("movies") == [1, 3]


def test_a_move_that_cannot_be_written_back_is_taken_back(
    node: Node, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, put = node("one"), Bucket.put
    add(registry)

    def fail(bucket: Bucket, key: str, data: bytes, *, over: str | None) -> str:
        if key.endswith("aliases.json"):
            raise UnreachableError("gone")
        return put(bucket, key, data, over=over)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "put", fail)
        with pytest.raises(UnreachableError):
            registry.set_alias("movies", "champion", 1)
    assert registry.aliases("movies") == {}
    registry.set_alias("movies", "champion", 1)
    assert [move.action for move in read_journal(node("other"), "movies")] == ["alias", "not_carried_out", "alias"]


def test_the_mirror_of_a_killed_move_is_made_anew(node: Node, add: Add) -> None:
    registry = node("one")
    add(registry)
    registry.set_alias("movies", "champion", 1)
    script = (
        "import os, sys; from raytune_ft.registry.bucket.remote import open_remote\n"
        "registry = open_remote(sys.argv[1], keep_going=False)\n"
        "with registry.lock('movies'):\n"
        "    (registry.root / 'movies/aliases.json').write_text('{\"champion\": 7}')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, registry.location], timeout=300)
    assert killed.returncode == -9
    assert registry.aliases("movies") == {"champion": 1}


def test_a_dead_holders_lease_goes_to_the_next_and_a_living_ones_does_not(node: Node, url: str) -> None:
    bucket = Bucket(url)
    with Lease(bucket, "movies/.lease", renew_s=60) as dead:
        started = time.monotonic()
        with Lease(bucket, "movies/.lease", expiry_s=1.0) as heir:
            assert heir.taken_over and not dead.taken_over
            assert 1.0 <= time.monotonic() - started < 50
        with (
            pytest.raises(RaytuneError, match="has held it for 0 s; try again"),
            Lease(bucket, "movies/.lease") as first,
        ):
            assert not first.taken_over
            with Lease(bucket, "movies/.lease", wait_s=0.0):
                pass


def test_a_holder_who_was_thought_dead_meets_a_conflict(node: Node, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick = node("slow"), node("quick")
    for _ in range(2):
        add(slow)
    monkeypatch.setattr(remote, "Lease", lambda bucket, key: Lease(bucket, key, renew_s=60, expiry_s=0.5))
    with pytest.raises(ConflictError), slow.lock("movies"):
        (slow.root / "movies" / "aliases.json").write_text('{"champion": 1}')
        quick.set_alias("movies", "champion", 2)
    assert slow.aliases("movies") == quick.aliases("movies") == {"champion": 2}


def test_an_endpoint_outlives_the_server_and_sees_what_is_new_when_it_is_back(
    server: Any, node: Node, add: Add, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer, endpoint = node("writer"), node("endpoint", keep_going=True)
    for _ in range(2):
        add(writer)
    writer.set_alias("movies", "champion", 1)
    path = endpoint.verified("movies", 1)
    server.stop()
    try:
        with caplog.at_level(logging.WARNING):
            assert endpoint.resolve("movies").version == 1
            assert endpoint.verified("movies", 1) == path
            assert endpoint.adapters() == ["movies"]
        assert "no answer" in caplog.text and "going on with what is in" in caplog.text
        with pytest.raises(UnreachableError, match=r"adapter_config\.json: no answer|movies/2/"):
            endpoint.verified("movies", 2)
        with pytest.raises(UnreachableError, match="no answer"):
            writer.set_alias("movies", "champion", 2)
        with pytest.raises(UnreachableError, match="no answer"):
            node("fresh", keep_going=True).adapters()
    finally:
        server.start()
    writer.set_alias("movies", "champion", 2)
    monkeypatch.setattr(remote, "RETRY_S", 0.0)
    deadline = time.monotonic() + remote.RETRY_S + 10
    while endpoint.aliases("movies")["champion"] != 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert endpoint.verified("movies", 2).name == "2"


def test_a_server_that_hangs_holds_up_one_request_for_a_second(
    node: Node, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = node("endpoint", keep_going=True)
    add(endpoint)
    endpoint.set_alias("movies", "champion", 1)
    hangs = threading.Event()
    monkeypatch.setattr(Bucket, "list", lambda bucket, below="": hangs.wait(30) and {})
    try:
        times = []
        for _ in range(5):
            started = time.monotonic()
            assert endpoint.resolve("movies").version == 1
            times.append(time.monotonic() - started)
        assert times[0] < remote.PATIENCE_S + 1 and max(times[1:]) < 0.5
    finally:
        hangs.set()


def test_what_was_added_after_a_listing_was_made_stays(node: Node, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, listed = node("one"), Bucket.list
    add(registry)
    added: list[int] = []

    def slow(bucket: Bucket, below: str = "") -> dict[str, str]:
        found = listed(bucket, below)
        if not below and not added:  # meanwhile the same machine promotes
            added.append(0)
            added.append(add(registry))
        return found

    monkeypatch.setattr(Bucket, "list", slow)
    weights = registry.root / "movies" / "2" / "adapter_model.safetensors"
    assert registry.adapters() == ["movies"] and added == [0, 2]
    assert weights.is_file()
