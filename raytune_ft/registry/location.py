"""Opens the registry at a location, which is a directory or a bucket's prefix."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from raytune_ft.registry.bucket.bucket import is_remote, remote_url
from raytune_ft.registry.store import Registry


def open_registry(location: str | Path, *, keep_going: bool = False) -> Registry:
    """Opens the registry in a directory or at `s3://bucket/prefix`.

    Args:
        location: The directory or bucket URL.
        keep_going: Use the last mirrored state while the bucket can't be reached; for endpoints.
    """
    return _open_remote(str(location), keep_going) if is_remote(location) else Registry(Path(location))


def absolute(location: str | Path) -> str:
    """Returns the location in a form that is valid from any working directory."""
    return remote_url(location) if is_remote(location) else str(Path(location).resolve())


@cache  # one object per process, because it remembers when it last asked the server
def _open_remote(location: str, keep_going: bool) -> Registry:
    from raytune_ft.registry.bucket.remote import open_remote

    return open_remote(location, keep_going=keep_going)
