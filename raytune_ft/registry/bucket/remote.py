"""A registry in a bucket: reads use a local mirror that is at most a second old, moves are written through.

The mirror is an ordinary registry directory, so that vLLM can load from it and all rules of `Registry` hold. A move
takes the adapter's lease, updates the mirror, is made in the mirror, and is then written to the bucket conditionally:
versions, journal, traffic rule, then aliases. If that fails, the mirror is restored.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.names import check_name, is_name
from raytune_ft.registry.bucket import mirror
from raytune_ft.registry.bucket.bucket import Bucket, ConflictError, UnreachableError
from raytune_ft.registry.bucket.lease import Lease
from raytune_ft.registry.files import ALIASES_NAME
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.store import Registry

STALENESS_S = 1.0
PATIENCE_S = 1.0  # longest wait of an endpoint's request for a server that does not answer
RETRY_S = 5.0  # after such a wait the server is not asked again for this time
LEASE_NAME = ".lease"
_OUTAGE = "."  # key in `_asked` for an outage of the server; no adapter can have this name
CACHE_VARIABLE = "RAYTUNE_FT_CACHE"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteRegistry(Registry):
    """The adapters in `bucket`; `root` is the local mirror."""

    bucket: Bucket = field(compare=False)
    keep_going: bool = False
    """Use the mirror while the server does not answer; endpoints set it, because they must survive an outage."""
    _asked: dict[str, float] = field(default_factory=dict, compare=False, repr=False)
    """Adapter, or "" for all -> time until which the mirror counts as up to date."""
    _readers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2), compare=False, repr=False)

    @property
    def location(self) -> str:
        return self.bucket.url

    def adapters(self) -> list[str]:
        self._refresh_all()
        return super().adapters()

    def refresh(self, adapter: str) -> None:
        check_name("adapter", adapter)
        if not (self.root / adapter).is_dir():  # an unknown name must not cost a request each
            self._refresh_all()
        elif self._due(adapter):
            self._ask(lambda: self._match(adapter))

    def directory(self, adapter: str) -> Path:
        self.refresh(adapter)
        return super().directory(adapter)

    def verified(self, adapter: str, version: int) -> Path:
        path = self.path(adapter, version)
        mirror.fetch(path.parent, self.bucket, adapter, version)
        verify(path)
        return path

    @contextmanager
    def lock(self, adapter: str) -> Iterator[None]:
        with super().lock(adapter), Lease(self.bucket, f"{adapter}/{LEASE_NAME}") as lease:
            if lease.taken_over:
                self._fence(adapter)
            directory = self.root / adapter
            mirror.match(directory, self.bucket, adapter, self._listing(adapter))
            before, versions = self._state(directory), self._versions(directory)
            tags = mirror.tags(directory)
            mirror.set_tags(directory, None)  # if this process is killed from here on, the next reader rereads all
            try:
                yield
                self._push(directory, adapter, before, self._versions(directory) - versions, tags)
            except BaseException:
                for name, data in before.items():
                    _restore(directory, name, data)
                for version in self._versions(directory) - versions:
                    shutil.rmtree(directory / version)
                raise
            mirror.set_tags(directory, tags)

    def _push(
        self, directory: Path, adapter: str, before: dict[str, bytes | None], new: set[str], tags: dict[str, str]
    ) -> None:
        for version in sorted(new, key=int):
            mirror.push_version(directory, self.bucket, adapter, version)
        for name, now in self._state(directory).items():
            if now == before[name]:
                continue
            tags[name] = self._put(f"{adapter}/{name}", mirror.ABSENT if now is None else now, over=tags.get(name))

    def _put(self, key: str, data: bytes, over: str | None) -> str:
        """Writes conditionally; if the response is lost, reads the object to find out whether it was written.

        Raises:
            UnreachableError: It was not written, or that can't be found out.
        """
        try:
            return self.bucket.put(key, data, over=over)
        except UnreachableError as lost:
            while True:
                try:
                    found = self.bucket.get(key)
                    if found is not None and found.data == data:
                        return found.etag
                    if not key.endswith(f"/{ALIASES_NAME}"):
                        raise lost
                    # The lost write may still arrive; giving the object a new ETag makes it fail.
                    with suppress(ConflictError):
                        at, now = (found.etag, found.data) if found else (None, b"{}")
                        self.bucket.put(key, now + b"\n", over=at)
                        raise lost
                except UnreachableError as again:
                    if again is lost:
                        raise
                    what = "no answer to a write, nor when asked what is there: nobody can tell whether it was made"
                    raise UnreachableError(f"{self.bucket.url}/{key}: {what}; see raytune-ft adapters later") from lost

    def _fence(self, adapter: str) -> None:
        """Gives the aliases a new ETag, so that a previous holder that is still alive can't move them any more."""
        key = f"{adapter}/{ALIASES_NAME}"
        while True:
            found = self.bucket.get(key)
            with suppress(ConflictError):
                self.bucket.put(key, (found.data if found else b"{}") + b"\n", over=found.etag if found else None)
                return

    def _refresh_all(self) -> None:
        if self._due(""):
            self._ask(self._match_all)

    def _match_all(self) -> None:
        listings: dict[str, dict[str, str]] = {adapter: {} for adapter in self._mirrored()}
        for key, tag in self.bucket.list().items():
            adapter, inside, rest = key.partition("/")
            if inside and is_name(adapter):
                listings.setdefault(adapter, {})[rest] = tag
        for adapter, listing in listings.items():
            if mirror.differs(self.root / adapter, listing):
                self._match(adapter)
            else:
                self._asked[adapter] = time.monotonic() + STALENESS_S

    def _match(self, adapter: str) -> None:
        directory = self.root / adapter
        directory.mkdir(parents=True, exist_ok=True)
        try:  # whoever holds the lock updates the mirror too, so that this need not wait
            with FileLock(directory / ".lock", timeout=0):
                # The listing is made under the lock; an older one would remove what has just been added.
                mirror.match(directory, self.bucket, adapter, self._listing(adapter))
        except Timeout:
            return
        self._asked[adapter] = time.monotonic() + STALENESS_S

    def _due(self, what: str) -> bool:
        """Tells whether it has to be read again; if so, other callers are told no for the next second."""
        now = time.monotonic()
        if now < max(self._asked.get(what, 0.0), self._asked.get(_OUTAGE, 0.0)):
            return False
        self._asked[what] = now + STALENESS_S
        return True

    def _ask(self, read: Callable[[], None]) -> None:
        if not (self.keep_going and self._mirrored()):
            read()
            return
        try:
            self._readers.submit(read).result(PATIENCE_S)
        except (UnreachableError, InputError, TimeoutError) as error:  # InputError: the credentials have expired
            self._asked[_OUTAGE] = time.monotonic() + RETRY_S
            why = str(error) or f"{self.bucket.url}: no answer within {PATIENCE_S:.0f} s"
            _log.warning("%s; going on with what is in %s", why, self.root)

    def _mirrored(self) -> list[str]:
        return [entry.name for entry in self.root.iterdir() if is_name(entry.name)]

    def _listing(self, adapter: str) -> dict[str, str]:
        found = self.bucket.list(f"{adapter}/")
        return {key.partition("/")[2]: tag for key, tag in found.items()}

    @staticmethod
    def _state(directory: Path) -> dict[str, bytes | None]:
        paths = [directory / name for name in mirror.STATE]
        return {path.name: path.read_bytes() if path.is_file() else None for path in paths}

    @staticmethod
    def _versions(directory: Path) -> set[str]:
        return {entry.name for entry in directory.iterdir() if entry.name.isdecimal()}


def open_remote(location: str | Path, *, keep_going: bool) -> RemoteRegistry:
    """Opens the registry at `s3://bucket/prefix`, with its mirror in the user's cache directory."""
    bucket = Bucket(location)
    return RemoteRegistry(_mirror_of(bucket), bucket, keep_going)


def _mirror_of(bucket: Bucket) -> Path:
    """Returns the mirror's directory, which is unique to server, bucket and prefix.

    It must belong to this user, because vLLM loads from it.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raytune-ft"
    parent = Path(os.environ.get(CACHE_VARIABLE) or default).expanduser()
    name = bucket.url.removeprefix("s3://").replace("/", "-")[:80]
    root = parent / f"{name}-{hashlib.sha256(bucket.identity.encode()).hexdigest()[:12]}"
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if root.stat().st_uid != os.getuid():
            raise RaytuneError(f"{root}: belongs to another user; set {CACHE_VARIABLE} to a directory of your own")
    except OSError as error:
        raise RaytuneError(f"{root}: can't be written ({error.strerror}); set {CACHE_VARIABLE}") from error
    return Path(os.path.realpath(root))


def _restore(directory: Path, name: str, data: bytes | None) -> None:
    if data is None:
        (directory / name).unlink(missing_ok=True)
    else:
        mirror.place(directory, name, data)
