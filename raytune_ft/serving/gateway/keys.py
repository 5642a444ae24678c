"""The file of API keys. A key is shown only when it is created; the file holds its SHA-256 hash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from raytune_ft.config.model import Strict
from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.names import check_name
from raytune_ft.paths import read_json, write_json

DEFAULT_KEY = "default"
"""Name of the key that RAYTUNE_FT_API_KEY or --api-key-file holds."""
_PREFIX = "rft_"
_LOCK_TIMEOUT_S = 10.0


class Key(Strict):
    """One entry of the key file, which does not hold the key itself."""

    name: str
    """Name of the key's owner."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hash of the token; the token has 256 random bits, so that it can't be guessed from the hash."""
    created: str
    """UTC time, ISO 8601."""
    revoked: str | None = None
    """UTC time at which the key became invalid, or null."""


class _KeyFile(Strict):
    schema_version: Literal[1] = Field(1, alias="schema")
    keys: tuple[Key, ...] = ()


def new_token() -> str:
    """Returns a new key with 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def hash_token(token: bytes) -> str:
    """Returns the key's SHA-256 hash as hex, which is what the file keeps."""
    return hashlib.sha256(token).hexdigest()


def read_keys(path: Path) -> list[Key]:
    """Returns all keys of the file, in the order they were created.

    Raises:
        InputError: The file is missing or can't be read.
        IntegrityError: The file is not in the format that `create_key` writes.
    """
    try:
        found = _KeyFile.model_validate(read_json(path))
    except FileNotFoundError as error:
        raise InputError(str(path), "is missing", f"make it: raytune-ft keys create NAME --file {path}") from error
    except OSError as error:
        raise InputError(str(path), f"can't be read ({error.strerror})", "let this user read it") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise IntegrityError(f"{path}: {place}: {first['msg']}; put the last good file back") from error
    return list(found.keys)


def create_key(path: Path, name: str) -> str:
    """Adds a key and returns its token, which can't be recovered later.

    Raises:
        InputError: The name is not allowed, or has a usable key already.
    """
    check_name("key", name)
    if name == DEFAULT_KEY:
        raise InputError("key", f"{name!r} names the key of the environment", "choose another name")
    with _locked(path):
        keys = read_keys(path) if path.exists() else []
        if any(key.name == name and key.revoked is None for key in keys):
            raise InputError(str(path), f"has a usable key {name!r}", "revoke it first, or choose another name")
        token = new_token()
        _write(path, [*keys, Key(name=name, sha256=hash_token(token.encode()), created=_now())])
    return token


def revoke_key(path: Path, name: str) -> Key:
    """Revokes the key and returns its entry; a running endpoint rejects the key within about a second.

    Raises:
        InputError: No usable key has this name.
    """
    check_name("key", name)
    with _locked(path):
        keys = read_keys(path)
        for index, key in enumerate(keys):
            if key.name == name and key.revoked is None:
                keys[index] = key.model_copy(update={"revoked": _now()})
                _write(path, keys)
                return keys[index]
    usable = ", ".join(key.name for key in keys if key.revoked is None) or "none"
    raise InputError(str(path), f"has no usable key {name!r} (usable: {usable})", "see raytune-ft keys list")


def _write(path: Path, keys: list[Key]) -> None:
    file = _KeyFile(schema=1, keys=tuple(keys))
    write_json(path, file.model_dump(mode="json", by_alias=True), mode=0o600)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_TIMEOUT_S):
            yield
    except Timeout as error:
        raise RaytuneError(f"{path}: another command holds it since {_LOCK_TIMEOUT_S:.0f} s; try again") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
