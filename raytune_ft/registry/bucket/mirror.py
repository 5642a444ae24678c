"""Mirrors one adapter's prefix in the bucket to a local directory.

Aliases, traffic rule, journal and manifests are copied at once, a version's other files when they are needed. Each file
is downloaded to a temporary name, checked by its sha256 and renamed, so that no partial file is ever in place; a
version that lacks a file fails `manifest.verify`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.paths import read_json, rename_into_place, sha256_file
from raytune_ft.registry import manifest
from raytune_ft.registry.bucket.bucket import Bucket
from raytune_ft.registry.files import ALIASES_NAME, JOURNAL_NAME, TRAFFIC_NAME

STATE = (JOURNAL_NAME, TRAFFIC_NAME, ALIASES_NAME)
"""The files that say which version is served, in the order in which a move writes them."""
ABSENT = b"null\n"
"""Content of an object that stands for a missing file. Unlike a deletion, writing it can be conditional on the ETag."""
_TAGS_NAME = ".tags.json"
_MANIFEST_KEY = re.compile(rf"([1-9][0-9]{{0,8}})/{re.escape(manifest.MANIFEST_NAME)}")
_VERSION_KEY = re.compile(r"([1-9][0-9]{0,8})/.+")
_FETCH_TIMEOUT_S = 900.0
_AT_ONCE = 8
_log = logging.getLogger(__name__)


def tags(directory: Path) -> dict[str, str]:
    """Returns key -> ETag of the objects that the directory was last copied from."""
    path = directory / _TAGS_NAME
    try:
        return {str(key): str(tag) for key, tag in read_json(path).items()} if path.is_file() else {}
    except IntegrityError:
        return {}


def set_tags(directory: Path, known: Mapping[str, str] | None) -> None:
    """Records the ETags that the directory was copied from; with None nothing is known, and all is read again."""
    if known is None:
        (directory / _TAGS_NAME).unlink(missing_ok=True)
    else:
        place(directory, _TAGS_NAME, json.dumps(known, indent=2).encode())


def place(directory: Path, key: str, data: bytes) -> None:
    """Writes a small file of the adapter's directory atomically; the caller holds the directory's lock."""
    aside = directory / ".placed"  # not in a version's directory, whose files must all be in its manifest
    with aside.open("wb") as writer:
        writer.write(data)
        writer.flush()
        os.fsync(writer.fileno())
    os.replace(aside, directory / key)


def differs(directory: Path, listing: Mapping[str, str]) -> bool:
    """Tells whether `match` would change anything, judged by a listing that may be slightly out of date."""
    present = {entry.name for entry in directory.iterdir() if entry.name.isdecimal()} if directory.is_dir() else set()
    return present != _begun(listing) or tags(directory) != {key: listing[key] for key in _wanted(listing)}


def match(directory: Path, bucket: Bucket, adapter: str, listing: Mapping[str, str]) -> None:
    """Updates the adapter's directory to the state of the bucket; the caller holds the directory's lock.

    Args:
        directory: The adapter's local directory.
        bucket: The bucket to copy from.
        adapter: Name of the adapter.
        listing: Key relative to the adapter -> ETag, for all of the adapter's objects.
    """
    directory.mkdir(parents=True, exist_ok=True)
    known = tags(directory)
    begun = _begun(listing)
    for entry in directory.iterdir():
        unfinished = f"{entry.name}/{manifest.MANIFEST_NAME}" not in listing
        if entry.name.isdecimal() and (entry.name not in begun or (unfinished and any(entry.iterdir()))):
            _remove(entry)
    for number in begun:
        (directory / number).mkdir(exist_ok=True)  # reserves the number of a version whose upload has begun
    wanted = _wanted(listing)
    changed = [key for key in wanted if known.get(key) != listing[key] or not _is_as_known(directory, key)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        fetched = dict(zip(changed, pool.map(lambda key: bucket.get(f"{adapter}/{key}"), changed), strict=True))
    new = {key: known[key] for key in wanted if key in known}
    # Aliases come last, so that the versions they point to are there before.
    for key, stored in sorted(fetched.items(), key=lambda item: STATE.index(item[0]) if item[0] in STATE else -1):
        if stored is None:
            continue
        if stored.data == ABSENT:
            (directory / key).unlink(missing_ok=True)
        else:
            place(directory, key, stored.data)
        new[key] = stored.etag
    for name in STATE:
        if name not in listing:
            (directory / name).unlink(missing_ok=True)
    if new != known:
        set_tags(directory, new)


def _is_as_known(directory: Path, key: str) -> bool:
    """Tells whether the file of a known ETag exists; a traffic rule may be missing, if it was read as ABSENT."""
    return key == TRAFFIC_NAME or (directory / key).is_file()


def _begun(listing: Mapping[str, str]) -> set[str]:
    """Returns the versions that have at least one object."""
    return {found[1] for key in listing if (found := _VERSION_KEY.fullmatch(key))}


def _wanted(listing: Mapping[str, str]) -> list[str]:
    """Returns the keys of the objects that are copied at once."""
    return [key for key in listing if key in STATE or _MANIFEST_KEY.fullmatch(key)]


def fetch(directory: Path, bucket: Bucket, adapter: str, version: int) -> None:
    """Downloads the files of a version that are missing here or do not match the manifest.

    Raises:
        IntegrityError: A file in the bucket is missing, or does not match the manifest.
        RaytuneError: The bucket can't be reached.
    """
    with FileLock(directory / f".fetch-{version}", timeout=_FETCH_TIMEOUT_S):
        target, aside = directory / str(version), directory / f".part-{version}"
        for name, expected in manifest.read(target).files.items():
            if name != Path(name).name or name.startswith("."):
                raise IntegrityError(f"{bucket.url}/{adapter}/{version}/{manifest.MANIFEST_NAME}: names {name!r}")
            if not (target / name).is_file() or sha256_file(target / name) != expected:
                _download(bucket, f"{adapter}/{version}/{name}", target / name, aside, expected)


def _download(bucket: Bucket, key: str, target: Path, aside: Path, expected: str) -> None:
    where, digest = f"{bucket.url}/{key}", hashlib.sha256()
    try:
        with aside.open("wb") as writer:
            for piece in bucket.chunks(key):
                digest.update(piece)
                writer.write(piece)
            writer.flush()
            os.fsync(writer.fileno())
        if digest.hexdigest() != expected:
            found = f"sha256 {digest.hexdigest()[:12]}... is not {expected[:12]}..."
            raise IntegrityError(f"{where}: {found} of {manifest.MANIFEST_NAME}; promote the run again")
        rename_into_place(aside, target)
    except FileNotFoundError as error:
        raise IntegrityError(f"{where}: is missing; promote the run again") from error
    except OSError as error:
        raise RaytuneError(f"{target}: can't be written ({error.strerror}); make room") from error
    finally:
        aside.unlink(missing_ok=True)


def push_version(directory: Path, bucket: Bucket, adapter: str, version: str) -> None:
    """Uploads a new version; the smallest file goes first and claims the number, the manifest goes last.

    Raises:
        ConflictError: Another process has claimed that number already.
    """
    source = directory / version
    files = sorted((each for each in source.iterdir() if each.name != manifest.MANIFEST_NAME), key=_size)
    claim, *rest = files
    bucket.put(f"{adapter}/{version}/{claim.name}", claim.read_bytes(), over=None)
    for path in rest:
        bucket.upload(f"{adapter}/{version}/{path.name}", path)
    manifest_path = source / manifest.MANIFEST_NAME
    bucket.put(f"{adapter}/{version}/{manifest_path.name}", manifest_path.read_bytes(), over=None)


def _size(path: Path) -> int:
    return path.stat().st_size


def _remove(version: Path) -> None:
    """Removes a version that is no longer in the bucket; the manifest goes first, so that the rest is no version."""
    _log.warning("%s is no longer in the bucket; it is removed here too", version)
    (version / manifest.MANIFEST_NAME).unlink(missing_ok=True)
    shutil.rmtree(version, ignore_errors=True)
