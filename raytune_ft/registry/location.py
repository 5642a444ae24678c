"""Which registry a location names: a directory, or a bucket's prefix."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from raytune_ft.registry.bucket.bucket import is_remote, remote_url
from raytune_ft.registry.store import Registry


def open_registry(location: str | Path, *, keep_going: bool = False) -> Registry:
    """The registry in a directory, or at `s3://bucket/prefix`.

    Args:
        location: Either of them.
        keep_going: Answer from what was read before while the bucket can't be reached; for endpoints.
    """
    return _open_remote(str(location), keep_going) if is_remote(location) else Registry(Path(location))


def absolute(location: str | Path) -> str:
    """The location as any other directory's process finds it."""
    return remote_url(location) if is_remote(location) else str(Path(location).resolve())


@cache  # one of each in a process: it remembers when it asked last
def _open_remote(location: str, keep_going: bool) -> Registry:
    from raytune_ft.registry.bucket.remote import open_remote

    return open_remote(location, keep_going=keep_going)
