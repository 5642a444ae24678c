"""Reads and conditionally writes whole objects below one prefix of an S3 bucket. Read against obstore 0.12.

A write succeeds only if the object is still the one that was read, which its ETag tells. Endpoint and credentials come
from the usual AWS_* variables, or from the machine's role.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from raytune_ft.errors import InputError, RaytuneError

if TYPE_CHECKING:
    from obstore.store import S3Store

_SCHEME = re.compile(r"s3:/{1,2}(?!/)")  # pathlib turns two slashes into one
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_CONNECT_TIMEOUT = timedelta(seconds=3)
_SMALL_TIMEOUT = timedelta(seconds=8)
_LARGE_TIMEOUT = timedelta(minutes=15)
_CHUNK_BYTES = 8 << 20


class UnreachableError(RaytuneError):
    """The server does not answer, or not at present."""


class ConflictError(RaytuneError):
    """Another writer changed the object since it was read."""


@dataclass(frozen=True)
class Stored:
    """An object's bytes and their ETag."""

    data: bytes
    etag: str


def is_remote(location: str | Path) -> bool:
    """Tells whether a registry's location is a bucket rather than a directory."""
    return _SCHEME.match(str(location)) is not None


def remote_url(location: str | Path) -> str:
    """Returns a bucket's location with the scheme `s3://`, whose slashes pathlib may have reduced."""
    return _SCHEME.sub("s3://", str(location), count=1)


class Bucket:
    """Objects below `s3://<bucket>/<prefix>`."""

    def __init__(self, location: str | Path) -> None:
        bucket, _, prefix = _SCHEME.sub("", str(location), count=1).partition("/")
        self._prefix = prefix.strip("/")
        self.url = f"s3://{bucket}/{self._prefix}".rstrip("/")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", bucket) or ".." in prefix:
            raise InputError(str(location), "is no bucket and prefix", "write s3://bucket/prefix")
        endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "https://")
        self._plain_http = endpoint.startswith("http://")
        self.identity = f"{endpoint} {self.url}"
        """Distinguishes it from a bucket of the same name at another server."""
        self.conditions_proved = False
        """Whether the server has been seen to refuse a conditional write, as it must."""
        self._small, self._large = self._store(bucket, _SMALL_TIMEOUT), self._store(bucket, _LARGE_TIMEOUT)

    def list(self, below: str = "") -> dict[str, str]:
        """Returns key -> ETag of every object below a directory of the prefix."""
        import obstore

        with self._errors(below):
            found = obstore.list(self._small, below or None).collect()
        return {each["path"]: each["e_tag"] or "" for each in found}

    def get(self, key: str) -> Stored | None:
        """Returns the object, or None if there is none."""
        import obstore

        try:
            with self._errors(key):
                found = obstore.get(self._small, key)
                return Stored(bytes(found.bytes()), found.meta["e_tag"] or "")
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes, *, over: str | None) -> str:
        """Writes the object if its ETag is still `over`, or, with None, if it does not exist; returns the new ETag.

        Raises:
            ConflictError: The object has changed or exists.
        """
        import obstore

        mode = "create" if over is None else {"e_tag": over}
        try:
            with self._errors(key):
                done = obstore.put(self._small, key, data, mode=mode, use_multipart=False)  # type: ignore[arg-type]
            return done["e_tag"] or ""
        except ConflictError:
            # The client repeats a request whose response was lost, and may then find the object it wrote itself.
            if (found := self.get(key)) is not None and found.data == data:
                return found.etag
            raise

    def upload(self, key: str, path: Path) -> None:
        """Uploads a file, in parts if it is large; unconditionally."""
        import obstore

        with self._errors(key):
            obstore.put(self._large, key, path)

    def chunks(self, key: str) -> Iterator[bytes]:
        """Yields the object's bytes in chunks; raises FileNotFoundError if there is no object."""
        import obstore

        with self._errors(key):
            for piece in obstore.get(self._large, key).stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(piece)

    def _store(self, bucket: str, timeout: timedelta) -> S3Store:
        from obstore.store import S3Store

        return S3Store(
            bucket,
            prefix=self._prefix or None,
            client_options={
                "allow_http": self._plain_http,
                "connect_timeout": _CONNECT_TIMEOUT,
                "timeout": timeout,
            },
            retry_config={"max_retries": 2, "retry_timeout": _SMALL_TIMEOUT},
        )

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Turns obstore's errors into ones with a one-line message; FileNotFoundError passes."""
        from obstore import exceptions

        where = f"{self.url}/{key}" if key else self.url
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._no_bucket() from error
            raise
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
            raise ConflictError(f"{where}: somebody else wrote it meanwhile; run the command again") from error
        except exceptions.BaseError as error:
            if "NoSuchBucket" in str(error):
                raise self._no_bucket() from error
            # A listing that the server refuses raises a GenericError.
            refused = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
            if isinstance(error, refused) or "code: 403" in str(error):
                remedy = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy"
                raise InputError(where, "the server refuses these credentials", remedy) from error
            why = " ".join(str(error).split("\n\nDebug source")[0].rpartition(" - ")[2].split())[:200]
            raise UnreachableError(f"{where}: no answer ({why}); check AWS_ENDPOINT_URL and the network") from error

    def _no_bucket(self) -> InputError:
        return InputError(self.url, "there is no such bucket", "create it, or correct the name")
