"""A registry in a bucket of a real S3 server: nothing is lost, nothing half is seen, and an outage is lived through."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from raytune_ft.cli.app import app
from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.registry import remote
from raytune_ft.registry.add import Provenance, add_version
from raytune_ft.registry.bucket import Bucket, ConflictError, UnreachableError
from raytune_ft.registry.journal import read_journal
from raytune_ft.registry.lease import Lease
from raytune_ft.registry.listing import list_versions
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.remote import RemoteRegistry
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import canary, read_traffic, set_traffic
from raytune_ft.serving.catalog import build_catalog
from raytune_ft.serving.settings import parse_serve_args

WEED = Path(sys.executable).parent / "weed"
PORTS = ("master.port", "volume.port", "filer.port", "s3.port", "admin.port")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test-access", "AWS_SECRET_ACCESS_KEY": "test-secret-key"}
MODULE = "model.layers.0.self_attn.q_proj"


class Server:
    """One SeaweedFS on loopback, which can be stopped and started again where it was."""

    def __init__(self, directory: Path, free_ports: Callable[[int], list[int]]) -> None:
        self._directory, self._seen = directory, list[str]()
        ports = iter(free_ports(2 * len(PORTS)))
        self._ports = {name: next(ports) for name in (*PORTS, *(f"{each}.grpc" for each in PORTS))}
        self.url = f"http://127.0.0.1:{self._ports['s3.port']}"

    def start(self) -> None:
        command = [str(WEED), "-logtostderr", "mini", f"-dir={self._directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += ["-webdav=false", "-admin.ui=false", "-master.telemetry=false", "-bucket=tests"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", *(f"-{name}={at}" for name, at in self._ports.items())]
        log = self._directory.with_suffix(".log")
        with log.open("a") as writer:
            self._process = subprocess.Popen(command, env={**os.environ, **CREDENTIALS}, stdout=writer, stderr=writer)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)

    def stop(self) -> None:
        """In order where it can; once it had not ended 20 s after it was asked to."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)

    def _answers(self) -> bool:
        """Whether it takes objects, and has those from before a stop; it opens its port long before."""
        name = uuid.uuid4().hex
        try:
            bucket = Bucket("s3://tests/ready")
            bucket.put(name, b"an empty one would need none of its volumes", over=None)
            known = all(bucket.get(each) for each in self._seen)
        except RaytuneError:
            return False
        self._seen.append(name)
        return known


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_ports: Callable[[int], list[int]]) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("s3")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        server = Server(directory, free_ports)
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def url(server: Server) -> str:
    return f"s3://tests/{uuid.uuid4().hex[:12]}/registry"


Node = Callable[..., RemoteRegistry]


@pytest.fixture
def node(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """The registry as a machine of its own sees it, with a mirror of its own."""
    monkeypatch.setattr(remote, "STALENESS_S", 0.0)

    def at(name: str, **options: bool) -> RemoteRegistry:
        monkeypatch.setenv(remote.CACHE_VARIABLE, str(tmp_path / "cache" / name))
        return remote.open_remote(url, **{"keep_going": False, **options})

    return at


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory = tmp_path / "models" / "base"
    _write(directory / "model.safetensors", {f"{MODULE}.weight": (6, 4)})
    (directory / "config.json").write_text("{}")
    return directory


def _write(path: Path, shapes: dict[str, tuple[int, int]]) -> None:
    header, offset = {}, 0
    for name, (rows, columns) in shapes.items():
        end = offset + 4 * rows * columns
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(offset))


def _add(registry: Registry, base: Path, adapter: str = "movies") -> int:
    source = base.parent / f"source-{uuid.uuid4().hex[:8]}"
    stem = f"base_model.model.{MODULE}"
    _write(source / "adapter_model.safetensors", {f"{stem}.lora_A.weight": (2, 4), f"{stem}.lora_B.weight": (6, 2)})
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 16, "target_modules": ["q_proj"]}
    (source / "adapter_config.json").write_text(json.dumps(config))
    provenance = Provenance(str(base), "f" * 64, "prompt_completion", "study", "0001", "a test")
    return add_version(registry, adapter, source, provenance)


def test_a_version_promoted_on_one_machine_is_found_whole_on_another(node: Node, base: Path) -> None:
    writer, reader = node("writer"), node("reader")
    assert (reader.adapters(), _add(writer, base), _add(writer, base)) == ([], 1, 2)
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


def test_rollback_canary_and_journal_go_through_the_bucket(node: Node, base: Path) -> None:
    one, other = node("one"), node("other")
    for _ in range(2):
        _add(one, base)
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


def test_two_machines_that_move_at_once_lose_no_move(node: Node, base: Path, url: str, tmp_path: Path) -> None:
    registry, rounds = node("one"), 4
    for _ in range(2):
        _add(registry, base)
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


def test_machines_that_add_at_once_get_a_version_each(node: Node, base: Path, tmp_path: Path) -> None:
    nodes = [node(name) for name in ("one", "two", "three")]
    with ThreadPoolExecutor() as pool:
        added = list(pool.map(lambda each: _add(each, base), nodes))
    assert sorted(added) == nodes[0].versions("movies") == [1, 2, 3]


def test_a_number_whose_upload_broke_off_is_never_seen_and_never_given_again(
    node: Node, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = node("writer"), node("reader")
    _add(writer, base)
    with monkeypatch.context() as patch:

        def fail(bucket: Bucket, key: str, path: Path) -> None:
            raise UnreachableError(f"{key}: gone")

        patch.setattr(Bucket, "upload", fail)
        with pytest.raises(UnreachableError):
            _add(writer, base)
    assert writer.versions("movies") == reader.versions("movies") == [1]
    assert _add(reader, base) == 3
    assert writer.versions("movies") == [1, 3]


def test_a_flipped_byte_in_the_bucket_is_refused(node: Node, base: Path, url: str) -> None:
    """Fault 9."""
    writer, reader = node("writer"), node("reader", keep_going=True)
    _add(writer, base)
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


def test_a_move_that_cannot_be_written_back_is_taken_back(
    node: Node, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, put = node("one"), Bucket.put
    _add(registry, base)

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


def test_the_mirror_of_a_killed_move_is_made_anew(node: Node, base: Path) -> None:
    registry = node("one")
    _add(registry, base)
    registry.set_alias("movies", "champion", 1)
    script = (
        "import os, sys; from raytune_ft.registry.remote import open_remote\n"
        "registry = open_remote(sys.argv[1], keep_going=False)\n"
        "with registry.lock('movies'):\n"
        "    (registry.root / 'movies/aliases.json').write_text('{\"champion\": 7}')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, registry.location], timeout=60)
    assert killed.returncode == -9
    assert registry.aliases("movies") == {"champion": 1}


def test_a_dead_holders_lease_goes_to_the_next_and_a_living_ones_does_not(node: Node, url: str) -> None:
    bucket = Bucket(url)
    with Lease(bucket, "movies/.lease", renew_s=60) as dead:
        started = time.monotonic()
        with Lease(bucket, "movies/.lease", expiry_s=1.0) as heir:
            assert heir.taken_over and not dead.taken_over
            assert 1.0 <= time.monotonic() - started < 10
        with (
            pytest.raises(RaytuneError, match="has held it for 0 s; try again"),
            Lease(bucket, "movies/.lease") as first,
        ):
            assert not first.taken_over
            with Lease(bucket, "movies/.lease", wait_s=0.0):
                pass


def test_a_holder_who_was_thought_dead_meets_a_conflict(
    node: Node, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = node("slow"), node("quick")
    for _ in range(2):
        _add(slow, base)
    monkeypatch.setattr(remote, "Lease", lambda bucket, key: Lease(bucket, key, renew_s=60, expiry_s=0.5))
    with pytest.raises(ConflictError), slow.lock("movies"):
        (slow.root / "movies" / "aliases.json").write_text('{"champion": 1}')
        quick.set_alias("movies", "champion", 2)
    assert slow.aliases("movies") == quick.aliases("movies") == {"champion": 2}


def test_an_endpoint_outlives_the_server_and_sees_what_is_new_when_it_is_back(
    server: Server, node: Node, base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer, endpoint = node("writer"), node("endpoint", keep_going=True)
    for _ in range(2):
        _add(writer, base)
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
    node: Node, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = node("endpoint", keep_going=True)
    _add(endpoint, base)
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


def test_what_was_added_after_a_listing_was_made_stays(node: Node, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, listed = node("one"), Bucket.list
    _add(registry, base)
    added: list[int] = []

    def slow(bucket: Bucket, below: str = "") -> dict[str, str]:
        found = listed(bucket, below)
        if not below and not added:  # meanwhile the same machine promotes
            added.append(0)
            added.append(_add(registry, base))
        return found

    monkeypatch.setattr(Bucket, "list", slow)
    weights = registry.root / "movies" / "2" / "adapter_model.safetensors"
    assert registry.adapters() == ["movies"] and added == [0, 2]
    assert weights.is_file()


def test_reads_within_a_second_ask_the_server_once(node: Node, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = node("one")
    _add(registry, base)
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


def test_a_bucket_that_is_not_there_is_named(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remote.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match="s3://no-such-bucket/x: there is no such bucket"):
        remote.open_remote("s3://no-such-bucket/x", keep_going=False).adapters()


def test_the_verbs_take_a_bucket_where_they_take_a_directory(
    node: Node, base: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = node("one")
    for _ in range(2):
        _add(registry, base)
        registry.set_alias("movies", "champion", registry.versions("movies")[-1])

    def verb(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--registry", url, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert [(row["version"], row["aliases"]) for row in verb("adapters")] == [(1, ["previous"]), (2, ["champion"])]
    assert verb("rollback", "movies") == {"adapter": "movies", "champion": 1}
    assert [move["action"] for move in verb("journal", "movies")] == ["alias", "alias", "rollback"]
    assert node("other").aliases("movies")["champion"] == 1


def test_an_endpoint_follows_a_bucket_from_version_to_version(node: Node, base: Path, url: str) -> None:
    writer = node("writer")
    _add(writer, base)
    writer.set_alias("movies", "champion", 1)
    node("endpoint")  # from here on it is this machine's mirror that is used
    args = parse_serve_args({"base_model": str(base), "registry": url})
    catalog = pickle.loads(pickle.dumps(build_catalog(args)))  # as it reaches a replica
    assert [model.id for model in catalog.listed()] == [
        "base", "base:movies", "base:movies@champion", "base:movies@1"
    ]  # fmt: skip
    _add(writer, base)
    writer.set_alias("movies", "champion", 2)
    found = catalog.find("movies", "")
    assert found.manifest.version == 2
    path = catalog.load_path("base:movies@2")
    assert (
        path.is_relative_to(Path(os.environ[remote.CACHE_VARIABLE])) and (path / "adapter_model.safetensors").exists()
    )
