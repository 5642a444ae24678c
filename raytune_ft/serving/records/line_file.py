"""An append-only JSONL log with rotation and a limit on the total size of all logs of one kind in a directory."""

from __future__ import annotations

import json
import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 30
"""Default limit on all logs of one kind in a directory."""
_PIECES = 16  # a file is rotated when it reaches this fraction (1/16) of the limit
NO_LINE = (TypeError, ValueError, RecursionError)
"""The errors that `as_line` raises."""
_log = logging.getLogger(__name__)


def as_line(value: dict[str, Any]) -> bytes:
    """Encodes a value as one line of a log.

    Raises:
        TypeError: The value holds something that JSON can't express.
        ValueError: The value contains itself.
        RecursionError: The value is nested too deeply.
    """
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


class LineFile:
    """A JSONL file to which whole lines are appended in one write each; it survives rotation and a full disk.

    Args:
        path: `<kind>-<writer>.jsonl`; a full file is renamed to `<kind>-<writer>.<time>.jsonl`.
        most_bytes: Most bytes of all files of this kind in the directory, by any writer; the oldest are removed.
    """

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self._path, self._most_bytes = path, most_bytes
        self._handle: int | None = None
        self._whole = True
        self._lost = 0

    def write(self, value: dict[str, Any]) -> bool:
        """Appends a line; returns False if that fails, and logs the first of several failures in a row."""
        try:
            line = as_line(value)
        except NO_LINE as error:
            return self._fail(error, 1)
        return self.append(line, 1)

    def append(self, lines: bytes, count: int) -> bool:
        """Appends `count` encoded lines in one write; returns False and logs as `write` does."""
        try:
            handle = self._open(len(lines))
            if not self._whole:
                lines = b"\n" + lines
            self._whole = os.write(handle, lines) == len(lines)
            if not self._whole:
                raise OSError("the disk took a part of a line")
        except OSError as error:
            return self._fail(error, count)
        if self._lost:
            _log.error("%s: written again; %d records were lost", self._path, self._lost)
            self._lost = 0
        return True

    def _fail(self, error: Exception, count: int) -> bool:
        if not self._lost:
            _log.error("%s: records are lost: %s", self._path, error)
        self._lost += count
        return False

    def _open(self, more: int) -> int:
        """Returns a handle of a file with room for `more` bytes; rotates a full file and reopens a moved one."""
        if self._handle is not None:
            found = os.fstat(self._handle)
            try:
                there = os.path.samestat(found, os.stat(self._path))
            except FileNotFoundError:  # another program moved it away; a new file is created below
                there = False
            if there and (not found.st_size or found.st_size + more <= self._most_bytes // _PIECES):
                return self._handle
            os.close(self._handle)
            self._handle = None
            if there:
                self._path.rename(self._path.with_suffix(f".{datetime.now(UTC):%Y%m%dT%H%M%S%f}.jsonl"))
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(self._path, flags, 0o600)
        size = os.fstat(handle).st_size
        self._whole = size == 0 or os.pread(handle, 1, size - 1) == b"\n"  # False if a killed writer left half a line
        self._handle = handle
        self._remove_oldest()
        return handle

    def _remove_oldest(self) -> None:
        kind = self._path.name.partition("-")[0]
        found = []
        for path in self._path.parent.glob(f"{kind}-*.jsonl"):
            try:
                status = path.lstat()
            except FileNotFoundError:  # another replica has just removed it
                continue
            if stat.S_ISREG(status.st_mode) and path != self._path:
                found.append((status.st_mtime_ns, status.st_size, path))
        room = self._most_bytes - self._most_bytes // _PIECES  # the rest is reserved for the current file
        for _, size, path in sorted(found, reverse=True):
            room -= size
            if room < 0:
                _log.warning("%s: removed, as the logs of its kind are above %d MiB", path, self._most_bytes >> 20)
                path.unlink(missing_ok=True)
