"""A real S3 server on loopback, and registries in a bucket of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raytune_ft.errors import RaytuneError
from raytune_ft.registry.add import Provenance, add_version
from raytune_ft.registry.bucket import remote
from raytune_ft.registry.bucket.bucket import Bucket
from raytune_ft.registry.bucket.remote import RemoteRegistry
from raytune_ft.registry.store import Registry

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
        deadline = time.monotonic() + 300
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
Add = Callable[[Registry], int]


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


@pytest.fixture
def add(base: Path) -> Add:
    """Adds a version of a tiny adapter for this base, and returns its number."""

    def a_version(registry: Registry) -> int:
        source = base.parent / f"source-{uuid.uuid4().hex[:8]}"
        stem = f"base_model.model.{MODULE}"
        _write(source / "adapter_model.safetensors", {f"{stem}.lora_A.weight": (2, 4), f"{stem}.lora_B.weight": (6, 2)})
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 16, "target_modules": ["q_proj"]}
        (source / "adapter_config.json").write_text(json.dumps(config))
        provenance = Provenance(str(base), "f" * 64, "prompt_completion", "study", "0001", "a test")
        return add_version(registry, "movies", source, provenance)

    return a_version
