"""A lock that is an object: one holder over all machines, and a dead holder's lock goes to the next.

The holder writes it anew every few seconds. Who waits takes it over once it saw the same bytes for `EXPIRY_S`, by its
own clock: no two clocks are compared. Every write names the tag that it replaces, so the server decides who won.
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
    """The lock `key`, held in a `with` block."""

    def __init__(
        self, bucket: Bucket, key: str, *, wait_s: float = WAIT_S, expiry_s: float = EXPIRY_S, renew_s: float = RENEW_S
    ) -> None:
        self._bucket, self._key = bucket, key
        self._wait_s, self._expiry_s, self._renew_s = wait_s, expiry_s, renew_s
        self._tag, self._end = "", threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self.taken_over = False
        """Whether it was a dead holder's, who may have left something half done."""

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
                    continue  # another one was faster
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
        """Two writes that must fail, once a process: a server that takes them lets two holders overwrite each other.

        Raises:
            InputError: It does; nothing was changed but the lock itself.
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
                return  # taken over: what is written under it now meets other tags, and fails
            except RaytuneError as error:
                _log.warning("%s", error)

    def _text(self, *, held: bool = True) -> bytes:
        """Never twice the same bytes, so never twice the same tag."""
        holder = f"process {os.getpid()} on {socket.gethostname()}" if held else None
        return json.dumps({"holder": holder, "nonce": uuid.uuid4().hex}).encode()


def _holder(data: bytes) -> str | None:
    try:
        holder = json.loads(data)["holder"]
    except (ValueError, TypeError, KeyError):
        return "somebody"
    return None if holder is None else str(holder)
