"""A registry in a bucket whose server ignores conditions, or whose answers are lost: told by what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from raytune_ft.errors import InputError
from raytune_ft.registry.bucket import remote
from raytune_ft.registry.bucket.bucket import Bucket, ConflictError, UnreachableError
from raytune_ft.registry.bucket.lease import Lease
from raytune_ft.registry.bucket.remote import RemoteRegistry
from raytune_ft.registry.journal import read_journal
from raytune_ft.registry.manifest import MANIFEST_NAME
from raytune_ft.registry.traffic import canary, read_traffic, set_traffic

Node = Callable[[str], RemoteRegistry]
PUT, GET = obstore.put, obstore.get


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Stands for the server: with conditions, as S3 has them."""
    store = MemoryStore()
    monkeypatch.setattr(Bucket, "_store", lambda *_: store)
    monkeypatch.setattr(remote, "STALENESS_S", 0.0)
    return store


@pytest.fixture
def node(store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """The registry as a machine of its own sees it."""

    def at(name: str) -> RemoteRegistry:
        monkeypatch.setenv(remote.CACHE_VARIABLE, str(tmp_path / "cache" / name))
        return remote.open_remote("s3://tests/registry", keep_going=False)

    return at


@pytest.fixture
def movies(node: Node, monkeypatch: pytest.MonkeyPatch) -> RemoteRegistry:
    """A registry with two versions, the first of them champion and the second challenger."""
    files: dict[str, Any] = {"study": "s", "trial": "t", "files": {}, "base_model": "b", "base_sha256": "0" * 64}
    monkeypatch.setattr(remote, "verify", lambda path: None)
    monkeypatch.setattr(remote.mirror, "fetch", lambda *_: None)
    monkeypatch.setattr("raytune_ft.registry.store.manifest.read", lambda path: _Manifest())
    registry = node("one")
    for version in ("1", "2"):
        registry.bucket.put(f"movies/{version}/{MANIFEST_NAME}", json.dumps(files).encode(), over=None)
    assert registry.versions("movies") == [1, 2]
    registry.set_alias("movies", "champion", 1)
    registry.set_alias("movies", "challenger", 2)
    return registry


class _Manifest:
    study, trial, forced, gates = "s", "t", False, {}


def _ignoring(header: str) -> Callable[..., Any]:
    """obstore.put before a server that does not know the header."""

    def put(store: Any, key: str, data: Any, *, mode: Any = "overwrite", **options: Any) -> Any:
        ignored = mode == "create" if header == "If-None-Match" else isinstance(mode, dict)
        return PUT(store, key, data, mode="overwrite" if ignored else mode, **options)

    return put


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_a_server_that_ignores_conditions_is_found_out_when_the_lease_is_taken(
    header: str, movies: RemoteRegistry, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obstore, "put", _ignoring(header))
    other = node("two")
    with pytest.raises(InputError, match=rf"s3://tests/registry: the server ignores {header}, .* conditional writes"):
        other.set_alias("movies", "champion", 2)
    monkeypatch.setattr(obstore, "put", PUT)
    assert other.aliases("movies") == {"champion": 1, "challenger": 2}
    with Lease(other.bucket, "movies/.lease", wait_s=0.0) as lease:
        assert not lease.taken_over, "the lock is free again"


def test_a_server_that_knows_conditions_is_asked_once(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        obstore, "put", lambda store, key, *args, **options: written.append(key) or PUT(store, key, *args, **options)
    )
    bucket = node("one").bucket
    for expected in (4, 2, 2):
        written.clear()
        with Lease(bucket, "movies/.lease") as lease:
            assert not lease.taken_over
        assert len(written) == expected
    assert bucket.get("movies/.lease") is not None


def test_a_rule_is_taken_away_only_where_it_is_still_the_one_that_was_read(
    movies: RemoteRegistry, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_traffic(movies, "movies", canary(10))
    other = node("two")
    push = RemoteRegistry._push

    def late(registry: RemoteRegistry, *arguments: Any) -> None:
        """Thought dead, it comes back when another one has written a rule of its own."""
        key = "movies/traffic.json"
        found = other.bucket.get(key)
        assert found is not None
        other.bucket.put(key, json.dumps(canary(50).to_json()).encode(), over=found.etag)
        push(registry, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteRegistry, "_push", late)
        with pytest.raises(ConflictError):
            set_traffic(movies, "movies", None)
    assert read_traffic(other, "movies") == read_traffic(movies, "movies") == canary(50)


def test_a_rule_that_was_taken_away_is_gone_everywhere_and_can_come_again(movies: RemoteRegistry, node: Node) -> None:
    other = node("two")
    for percent in (10, 20):
        set_traffic(movies, "movies", canary(percent))
        assert read_traffic(other, "movies") == canary(percent)
        set_traffic(movies, "movies", None)
        assert read_traffic(other, "movies") is None and not other.file("movies", "traffic.json").exists()
        set_traffic(other, "movies", None)  # nothing to take away, and no line of it
    assert [move.action for move in read_journal(node("three"), "movies")] == ["alias"] * 2 + ["traffic"] * 4


def test_a_rule_that_is_gone_costs_no_request_a_read(
    movies: RemoteRegistry, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_traffic(movies, "movies", canary(10))
    set_traffic(movies, "movies", None)
    other, asked = node("two"), list[str]()
    other.refresh("movies")
    monkeypatch.setattr(obstore, "get", lambda store, key, **options: asked.append(key) or GET(store, key, **options))
    other.refresh("movies")
    movies.refresh("movies")
    assert asked == []


def _loses_the_answer(written: bool, reads_too: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next write of aliases.json has no answer, whether it was made or not; nor have reads after it, if wished."""
    lost: list[str] = []

    def put(store: Any, key: str, *arguments: Any, **options: Any) -> Any:
        if key.endswith("aliases.json") and not lost:
            lost.append(key)
            if written:
                PUT(store, key, *arguments, **options)
            raise GenericError("Generic S3 error: operation timed out")
        return PUT(store, key, *arguments, **options)

    def get(store: Any, key: str, **options: Any) -> Any:
        if reads_too and lost and key.endswith("aliases.json"):
            raise GenericError("Generic S3 error: operation timed out")
        return GET(store, key, **options)

    monkeypatch.setattr(obstore, "put", put)
    monkeypatch.setattr(obstore, "get", get)


def test_a_move_whose_answer_is_lost_is_reported_as_made_where_it_was(
    movies: RemoteRegistry, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    _loses_the_answer(True, False, monkeypatch)
    movies.set_alias("movies", "champion", 2)
    assert movies.aliases("movies") == node("two").aliases("movies") == {"champion": 2, "challenger": 2, "previous": 1}


def test_a_move_whose_answer_is_lost_and_that_was_not_made_is_none_and_stays_none(
    movies: RemoteRegistry, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = movies.bucket.get("movies/aliases.json")
    _loses_the_answer(False, False, monkeypatch)
    with pytest.raises(UnreachableError, match=r"aliases.json: no answer \(Generic S3 error"):
        movies.set_alias("movies", "champion", 2)
    assert before is not None
    with pytest.raises(ConflictError):  # the write that was on its way all the time
        movies.bucket.put("movies/aliases.json", b'{"champion": 2}', over=before.etag)
    assert movies.aliases("movies") == node("two").aliases("movies") == {"champion": 1, "challenger": 2}


def test_where_nobody_can_tell_the_error_says_so_and_the_next_read_sees_what_is_there(
    movies: RemoteRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _loses_the_answer(True, True, patch)
        with pytest.raises(UnreachableError, match="nobody can tell whether it was made; see raytune-ft adapters"):
            movies.set_alias("movies", "champion", 2)
    assert movies.aliases("movies")["champion"] == 2
