"""A registry in a bucket of a real S3 server: machines see one another's moves, and nothing half."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from raytune_ft.cli.app import app
from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.methods.weights.base_weights import base_sha256
from raytune_ft.registry.add import Added, Placing, Provenance, add_staged
from raytune_ft.registry.bucket import remote
from raytune_ft.registry.bucket.bucket import Bucket, UnreachableError
from raytune_ft.registry.bucket.remote import RemoteRegistry
from raytune_ft.registry.compared import ChampionMovedError, Compared
from raytune_ft.registry.journal import Move, read_journal
from raytune_ft.registry.listing import list_versions
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.staging import StagedAdapter, staged
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import canary, read_traffic, set_traffic
from raytune_ft.serving.models.catalog import build_catalog
from raytune_ft.serving.settings import parse_serve_args

Node = Callable[..., RemoteRegistry]
Add = Callable[[Registry], int]


def test_a_version_promoted_on_one_machine_is_found_whole_on_another(node: Node, add: Add) -> None:
    writer, reader = node("writer"), node("reader")
    assert (reader.adapters(), add(writer), add(writer)) == ([], 1, 2)
    writer.set_alias("movies", "champion", 1)
    writer.set_alias("movies", "champion", 2)
    assert (reader.adapters(), reader.versions("movies")) == (["movies"], [1, 2])
    assert reader.aliases("movies") == {"champion": 2, "previous": 1}
    assert [row.version for row in list_versions(reader)] == [1, 2]
    found = reader.resolve("movies")
    assert [path.name for path in found.path.iterdir()] == ["manifest.json"], "only what is asked for is downloaded"
    assert reader.verified("movies", found.version) == found.path
    assert verify(found.path).version == 2
    assert not [path for path in found.path.parent.iterdir() if path.name.startswith(".part")]


def test_rollback_canary_and_journal_go_through_the_bucket(node: Node, add: Add) -> None:
    one, other = node("one"), node("other")
    for _ in range(2):
        add(one)
    one.set_alias("movies", "champion", 1)
    other.set_alias("movies", "champion", 2)
    assert one.rollback("movies") == 1
    other.set_alias("movies", "challenger", 2)
    set_traffic(one, "movies", canary(10))
    found = read_traffic(other, "movies")
    assert found is not None and found.shares == {"champion": 90, "challenger": 10}
    set_traffic(other, "movies", None)
    assert read_traffic(one, "movies") is None
    moves = [(move.action, move.alias, move.after) for move in read_journal(one, "movies")]
    assert moves[:4] == [
        ("alias", "champion", 1), ("alias", "champion", 2), ("rollback", "champion", 1), ("alias", "challenger", 2),
    ]  # fmt: skip
    assert [action for action, _, _ in moves[4:]] == ["traffic", "traffic"]


def _move_often(url: str, cache: str, rounds: int) -> None:
    os.environ[remote.CACHE_VARIABLE] = cache
    registry = remote.open_remote(url, keep_going=False)
    for turn in range(rounds):
        registry.set_alias("movies", "champion", 1 + turn % 2)


def test_two_machines_that_move_at_once_lose_no_move(node: Node, add: Add, url: str, tmp_path: Path) -> None:
    registry, rounds = node("one"), 4
    for _ in range(2):
        add(registry)
    context = multiprocessing.get_context("spawn")
    movers = [
        context.Process(target=_move_often, args=(url, str(tmp_path / "cache" / name), rounds)) for name in ("a", "b")
    ]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join(120)
    assert [mover.exitcode for mover in movers] == [0, 0]
    moves = read_journal(registry, "movies")
    assert [move.action for move in moves] == ["alias"] * 2 * rounds
    for before, after in pairwise(moves):
        assert after.before == before.after, "a move started from a state that was never there"
    assert registry.aliases("movies")["champion"] == moves[-1].after


def test_machines_that_add_at_once_get_a_version_each(node: Node, add: Add, tmp_path: Path) -> None:
    nodes = [node(name) for name in ("one", "two", "three")]
    with ThreadPoolExecutor() as pool:
        added = list(pool.map(lambda each: add(each), nodes))
    assert sorted(added) == nodes[0].versions("movies") == [1, 2, 3]


def test_a_flipped_byte_in_the_bucket_is_refused(node: Node, add: Add, url: str) -> None:
    """Fault 9."""
    writer, reader = node("writer"), node("reader", keep_going=True)
    add(writer)
    bucket, key = Bucket(url), "movies/1/adapter_model.safetensors"
    stored = bucket.get(key)
    assert stored is not None
    bucket.put(key, stored.data[:-1] + bytes([stored.data[-1] ^ 1]), over=stored.etag)
    with pytest.raises(IntegrityError, match=r"movies/1/adapter_model\.safetensors: sha256 .* is not"):
        reader.verified("movies", 1)
    assert not (reader.path("movies", 1) / "adapter_model.safetensors").exists()
    with pytest.raises(IntegrityError):
        reader.set_alias("movies", "champion", 1)
    assert reader.aliases("movies") == {} and read_journal(reader, "movies") == []


def test_reads_within_a_second_ask_the_server_once(node: Node, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = node("one")
    add(registry)
    registry.set_alias("movies", "champion", 1)
    monkeypatch.setattr(remote, "STALENESS_S", 60.0)
    asked: list[str] = []
    listed = Bucket.list
    monkeypatch.setattr(Bucket, "list", lambda bucket, below="": (asked.append(below), listed(bucket, below))[1])
    for _ in range(20):
        assert registry.resolve("movies").version == 1
        with pytest.raises(InputError):
            registry.resolve(f"unknown-{len(asked)}")
    assert asked == ["movies/", ""]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, InputError, "the server refuses these credentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, UnreachableError, "no answer .*check AWS_ENDPOINT_URL"),
    ],
)
def test_what_keeps_a_command_from_the_bucket_is_one_line(
    node: Node, change: dict[str, str], error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=says) as caught:
        node("one").adapters()
    assert "\n" not in str(caught.value) and "test-secret-key" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_named(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remote.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match="s3://no-such-bucket/x: there is no such bucket"):
        remote.open_remote("s3://no-such-bucket/x", keep_going=False).adapters()


def test_the_verbs_take_a_bucket_where_they_take_a_directory(
    node: Node, add: Add, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = node("one")
    for _ in range(2):
        add(registry)
        registry.set_alias("movies", "champion", registry.versions("movies")[-1])

    def verb(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--registry", url, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert [(row["version"], row["aliases"]) for row in verb("adapters")] == [(1, ["previous"]), (2, ["champion"])]
    assert verb("rollback", "movies") == {"adapter": "movies", "champion": 1}
    assert [move["action"] for move in verb("journal", "movies")] == ["alias", "alias", "rollback"]
    assert node("other").aliases("movies")["champion"] == 1


def test_an_endpoint_follows_a_bucket_from_version_to_version(node: Node, base: Path, add: Add, url: str) -> None:
    writer = node("writer")
    add(writer)
    writer.set_alias("movies", "champion", 1)
    node("endpoint")  # from here on it is this machine's mirror that is used
    args = parse_serve_args({"base_model": str(base), "registry": url})
    catalog = pickle.loads(pickle.dumps(build_catalog(args)))  # as it reaches a replica
    assert [model.id for model in catalog.listed()] == [
        "base", "base:movies", "base:movies@champion", "base:movies@1"
    ]  # fmt: skip
    add(writer)
    writer.set_alias("movies", "champion", 2)
    found = catalog.find("movies", "")
    assert found.manifest.version == 2
    path = catalog.load_path("base:movies@2")
    assert (
        path.is_relative_to(Path(os.environ[remote.CACHE_VARIABLE])) and (path / "adapter_model.safetensors").exists()
    )


def test_a_version_goes_in_only_over_the_champion_that_it_was_compared_with(node: Node, add: Add, base: Path) -> None:
    one, other = node("one"), node("other")
    add(one)
    one.set_alias("movies", "champion", 1)
    source = next(base.parent.glob("source-*"))
    provenance = Provenance(str(base), "f" * 64, "prompt_completion", "study", "0002", "a test")

    def place(copy: StagedAdapter, champion: int) -> Added:
        placing = Placing("champion", Move(action="promote"), Compared(champion))
        return add_staged(one, "movies", copy, provenance, base_sha256(str(base)), placing=placing)

    with staged(one, "movies", source, str(base)) as copy:
        add(other)
        other.set_alias("movies", "champion", 2)  # while the first one compares with version 1
        with pytest.raises(ChampionMovedError, match="movies: was compared with champion 1, there is champion 2 now"):
            place(copy, champion=1)
        assert (other.versions("movies"), other.alias("movies", "champion")) == ([1, 2], 2)
        assert place(copy, champion=2) == Added(version=3, previous=2)
    assert node("reader").aliases("movies") == {"champion": 3, "previous": 2}
    assert verify(node("reader").verified("movies", 3)).trial == "0002"
