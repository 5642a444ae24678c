"""Looks up the name of a request's API key in the keys that are valid now."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from pathlib import Path

from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.serving.gateway.keys import DEFAULT_KEY, read_keys
from raytune_ft.serving.settings import API_KEY_VARIABLE, ServeArgs, is_loopback, read_api_key

_log = logging.getLogger(__name__)
_Stamp = tuple[int, int, int]


class KeyRing:
    """The API keys of one endpoint: the key of the environment or of `api_key_file`, and those of the hashed-key file.

    `refresh` rereads a changed file without a restart; a thread calls it, because the file's storage may hang. If the
    file vanishes or breaks while the endpoint serves, the last good keys stay valid and the error is logged.

    Raises:
        InputError: A file is missing, or `api_key_file` holds no usable key.
        IntegrityError: The hashed-key file is broken.
    """

    def __init__(self, args: ServeArgs) -> None:
        key = read_api_key(args.api_key_file)
        self._own = [] if key is None else [(hashlib.sha256(key.encode()).digest(), DEFAULT_KEY)]
        self._file = Path(args.api_keys_file) if args.api_keys_file is not None else None
        self._stamp = self._stat()
        self._filed = self._read()

    @property
    def wanted(self) -> bool:
        """Whether requests need a key; True also where every key was revoked."""
        return bool(self._own) or self._file is not None

    @property
    def usable(self) -> int:
        """Number of valid keys."""
        return len(self._own) + len(self._filed)

    def name_of(self, token: bytes) -> str | None:
        """Returns the name of the key, or None for an invalid one; takes the same time for each (no timing leak)."""
        given, found = hashlib.sha256(token).digest(), None
        for known, name in (*self._own, *self._filed):
            if hmac.compare_digest(known, given):
                found = name
        return found

    def refresh(self) -> None:
        """Rereads the file if it changed."""
        if self._file is None:
            return
        stamp = self._stat()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._filed = self._read()
        except RaytuneError as error:
            _log.error("the keys stay as they were: %s", error)
        else:
            _log.warning("%s was read again: %d usable keys", self._file, len(self._filed))

    def _read(self) -> list[tuple[bytes, str]]:
        if self._file is None:
            return []
        return [(bytes.fromhex(key.sha256), key.name) for key in read_keys(self._file) if key.revoked is None]

    def _stat(self) -> _Stamp | None:
        """Returns the file's modification time, size and inode, which tell whether it changed; None without a file."""
        try:
            found = os.stat(self._file) if self._file is not None else None
        except OSError:
            return None
        return found and (found.st_mtime_ns, found.st_size, found.st_ino)


def check_exposure(args: ServeArgs) -> None:
    """Checks that an endpoint which other machines can reach has a valid API key.

    Raises:
        InputError: It has none, or a key file is missing or unusable.
        IntegrityError: The hashed-key file is broken.
    """
    ring = KeyRing(args)
    if not ring.usable and not is_loopback(args.host):
        what = "no API key is usable" if ring.wanted else "no API key is set"
        remedy = f"set {API_KEY_VARIABLE}, --api-key-file or --api-keys-file"
        raise InputError(f"host {args.host}", f"is reachable by others and {what}", remedy)
