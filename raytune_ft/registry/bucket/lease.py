"""A lock across machines that is an object in the bucket; the lock of a dead holder can be taken over.

The holder rewrites the object every few seconds. A waiting process takes the lock over once it has seen the same bytes
for `EXPIRY_S` by its own clock, so that no two clocks are compared. Every write is conditional on the ETag that it
replaces, so that the server decides which of two writers wins.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from types import TracebackType

from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.registry.bucket.bucket import Bucket, ConflictError

RENEW_S = 5.0
EXPIRY_S = 20.0
NO_TAG = '"' + "0" * 32 + '"'
WAIT_S = 60.0
_POLL_S = 0.2
_log = logging.getLogger(__name__)


class Lease:
    """The lock on the object `key`, held for the length of a `with` block."""

    def __init__(
        self, bucket: Bucket, key: str, *, wait_s: float = WAIT_S, expiry_s: float = EXPIRY_S, renew_s: float = RENEW_S
    ) -> None:
        self._bucket, self._key = bucket, key
        self._wait_s, self._expiry_s, self._renew_s = wait_s, expiry_s, renew_s
        self._tag, self._end = "", threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self.taken_over = False
        """Whether it was taken from a dead holder, which may have left a move half done."""

    def __enter__(self) -> Lease:
        deadline, seen, since = time.monotonic() + self._wait_s, "", time.monotonic()
        while True:
            found = self._bucket.get(self._key)
            holder = _holder(found.data) if found else None
            if found and found.etag != seen:
                seen, since = found.etag, time.monotonic()
            expired = holder is not None and time.monotonic() - since >= self._expiry_s
            if holder is None or expired:
                try:
                    self._tag = self._bucket.put(self._key, self._text(), over=found.etag if found else None)
                    self.taken_over = expired
                    self._prove_conditions()
                    break
                except ConflictError:
                    continue  # another process was faster
            if time.monotonic() > deadline:
                where = f"{self._bucket.url}/{self._key}"
                raise RaytuneError(f"{where}: {holder} has held it for {self._wait_s:.0f} s; try again")
            time.sleep(_POLL_S)
        self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._renewing.join()
        try:
            self._bucket.put(self._key, self._text(held=False), over=self._tag)
        except RaytuneError as failed:
            _log.warning("%s; the lock frees itself after %.0f s", failed, self._expiry_s)

    def _prove_conditions(self) -> None:
        """Checks once per process that the server refuses two conditional writes which must fail.

        A server that accepts them would let two holders overwrite each other.

        Raises:
            InputError: The server accepts one; only the lock object itself was changed.
        """
        if self._bucket.conditions_proved:
            return
        for header, over in (("If-None-Match", None), ("If-Match", NO_TAG)):
            with suppress(ConflictError):
                self._bucket.put(self._key, self._text(held=False), over=over)
                what = f"the server ignores {header}, so one of two promotions at once would be lost"
                raise InputError(
                    self._bucket.url, what, "use a server with conditional writes, as Amazon's S3 has them"
                )
        self._bucket.conditions_proved = True

    def _renew(self) -> None:
        while not self._end.wait(self._renew_s):
            try:
                self._tag = self._bucket.put(self._key, self._text(), over=self._tag)
            except ConflictError:
                return  # the lock was taken over; writes of this holder now fail, because the ETags have changed
            except RaytuneError as error:
                _log.warning("%s", error)

    def _text(self, *, held: bool = True) -> bytes:
        """Returns the lock object's content; a nonce makes it unique, so that the ETag changes with each write."""
        holder = f"process {os.getpid()} on {socket.gethostname()}" if held else None
        return json.dumps({"holder": holder, "nonce": uuid.uuid4().hex}).encode()


def _holder(data: bytes) -> str | None:
    try:
        holder = json.loads(data)["holder"]
    except (ValueError, TypeError, KeyError):
        return "somebody"
    return None if holder is None else str(holder)
