"""Where a registry lies: a directory or a bucket, however it was written; and what a bucket can't make a mirror do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import pytest

from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.registry.bucket import mirror, remote
from raytune_ft.registry.bucket.bucket import Bucket, Stored, is_remote
from raytune_ft.registry.bucket.remote import RemoteRegistry, open_remote
from raytune_ft.registry.location import absolute, open_registry
from raytune_ft.registry.store import Registry


class Objects:
    """A bucket's objects in memory, with a tag for each write; enough for what only reads."""

    url = "s3://tests/registry"

    def __init__(self, **objects: bytes) -> None:
        self.objects = {name.replace("__", "/").replace("_json", ".json"): data for name, data in objects.items()}

    def list(self, below: str = "") -> dict[str, str]:
        return {key: str(hash(data)) for key, data in self.objects.items() if key.startswith(below)}

    def get(self, key: str) -> Stored | None:
        data = self.objects.get(key)
        return None if data is None else Stored(data, str(hash(data)))


def _match(directory: Path, objects: Objects) -> None:
    listing = {key.partition("/")[2]: tag for key, tag in objects.list("movies/").items()}
    mirror.match(directory, cast(Bucket, objects), "movies", listing)


def test_a_bucket_is_known_also_where_pathlib_took_a_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remote.CACHE_VARIABLE, str(tmp_path))
    for location in ("s3://bucket/some/prefix", Path("s3://bucket/some/prefix")):
        assert is_remote(location)
        assert absolute(location) == "s3://bucket/some/prefix"
        registry = open_registry(location)
        assert isinstance(registry, RemoteRegistry) and registry.location == "s3://bucket/some/prefix"
        assert registry is open_registry(location), "it remembers when it asked last"
    assert not is_remote(tmp_path) and not is_remote("s3") and not is_remote("./s3:/x")
    assert open_registry(tmp_path) == Registry(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert absolute("registry") == str(tmp_path / "registry")


@pytest.mark.parametrize("location", ["s3://", "s3://-x/y", "s3://bucket/../other", "s3://b u/x"])
def test_what_is_no_bucket_is_refused(location: str) -> None:
    with pytest.raises(InputError, match="write s3://bucket/prefix"):
        Bucket(location)


def test_equal_names_at_two_servers_have_a_mirror_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remote.CACHE_VARIABLE, str(tmp_path))
    roots = set()
    for endpoint in ("http://127.0.0.1:1", "http://127.0.0.1:2"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        roots.add(open_remote("s3://bucket/prefix", keep_going=False).root)
    assert len(roots) == 2
    assert all(root.stat().st_mode & 0o077 == 0 for root in roots), "vLLM loads from it"
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(RaytuneError, match="belongs to another user"):
        open_remote("s3://bucket/prefix", keep_going=False)


def test_what_the_bucket_lost_is_taken_from_the_mirror(tmp_path: Path) -> None:
    objects = Objects(movies__1__manifest_json=b"{}", movies__2__manifest_json=b"{}", movies__aliases_json=b"{}\n")
    _match(tmp_path, objects)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["1", "2", "aliases.json"]
    del objects.objects["movies/aliases.json"], objects.objects["movies/2/manifest.json"]
    _match(tmp_path, objects)
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == ["1"]


def test_keys_that_are_no_part_of_a_registry_are_left_where_they_are(tmp_path: Path) -> None:
    objects = Objects()
    objects.objects = {
        "movies/../../outside/manifest.json": b"x", "movies/notes.txt": b"x", "movies/1/../../../x": b"x",
        "movies/0/manifest.json": b"x", "movies/.lease": b"x",
    }  # fmt: skip
    _match(tmp_path / "movies", objects)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} <= {"movies", "movies/1"}


def test_a_manifest_that_names_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    version = tmp_path / "movies" / "1"
    version.mkdir(parents=True)
    manifest: dict[str, Any] = {
        "schema": 1, "adapter": "movies", "version": 1, "base_model": "b", "base_sha256": "0", "lora_rank": 1,
        "data_fingerprint": "f", "form": "messages", "study": "s", "trial": "0", "metrics": {}, "created": "now",
        "command": "c", "files": {"../../outside": "0" * 64},
    }  # fmt: skip
    (version / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match=r"names '\.\./\.\./outside'"):
        mirror.fetch(version.parent, cast(Bucket, Objects()), "movies", 1)
    assert not (tmp_path / "outside").exists()
