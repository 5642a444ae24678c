"""Queues log lines for one writer thread of this process, so that no request waits for a disk."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from raytune_ft.serving.records.line_file import LineFile

_MOST_BYTES = 16 << 20  # about 40,000 records
_AT_ONCE = 1000
_PAUSE_S = 0.02  # a thread that woke up for each line would compete with the requests for the GIL
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Entry:
    file: LineFile
    line: bytes
    told: Callable[[bool], None] | None

    def tell(self, well: bool) -> None:
        if self.told is not None:
            try:
                self.told(well)
            except Exception:  # it must not end the writer thread that calls this
                _log.exception("who waited for a log line can't be told of it")


class LogQueue:
    """A bounded queue of log lines; lines beyond its size are dropped and counted.

    Args:
        most_bytes: Most bytes of waiting lines.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._waiting: deque[_Entry] = deque()
        self._bytes = self._dropped = self._unwritten = 0
        self._of_file: Counter[LineFile] = Counter()
        self._changed = threading.Condition()
        self._writer: threading.Thread | None = None

    @property
    def lost(self) -> int:
        """Number of lines that were lost because the queue was full or the disk refused them."""
        return self._dropped + self._unwritten

    def put(
        self, file: LineFile, line: bytes, told: Callable[[bool], None] | None = None, *, share: float = 1.0
    ) -> bool:
        """Queues a line and returns True, or drops it and returns False; never blocks.

        Args:
            file: The log to append to.
            line: The encoded line with its line break.
            told: Called by the writer thread with whether the line was written.
            share: Fraction of the queue that the file's lines may take, so that they can't displace those of others.
        """
        with self._changed:
            of_file = self._of_file[file] + len(line)
            if self._bytes + len(line) > self._most_bytes or of_file > share * self._most_bytes:
                if not self._dropped:
                    _log.error("log lines are lost: more come than the disk takes")
                self._dropped += 1
                return False
            self._waiting.append(_Entry(file, line, told))
            self._bytes += len(line)
            self._of_file[file] = of_file
            if self._writer is None:  # started late, because a fork of this process would not have the thread
                self._writer = threading.Thread(target=self._write, name="raytune-ft-logs", daemon=True)
                self._writer.start()
                atexit.register(self.flush, 2.0)
            if len(self._waiting) == 1:
                self._changed.notify_all()
        return True

    def unwritable(self, error: Exception) -> None:
        """Counts a record that could not be encoded as a line."""
        _log.error("a log line is lost: %s", type(error).__name__)
        with self._changed:
            self._unwritten += 1

    async def written(self, file: LineFile, line: bytes, timeout_s: float) -> bool | None:
        """Queues a line and waits until it is written.

        Returns:
            Whether the line was written; None if that is unknown after `timeout_s`, and it may be written later.
        """
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        kept: list[bool] = []

        def told(well: bool) -> None:
            kept.append(well)
            with suppress(RuntimeError):  # the event loop is closed, so nothing waits any more
                loop.call_soon_threadsafe(done.set)

        if not self.put(file, line, told):
            return False
        try:
            await asyncio.wait_for(done.wait(), timeout_s)
        except TimeoutError:
            return None
        return kept[0]

    def flush(self, timeout_s: float) -> bool:
        """Waits until all lines are written; returns False if that takes longer than `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._bytes, timeout_s)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
            by_file: dict[LineFile, list[_Entry]] = {}
            for entry in taken:
                by_file.setdefault(entry.file, []).append(entry)
            for file, entries in by_file.items():
                try:
                    well = file.append(b"".join(entry.line for entry in entries), len(entries))
                except Exception:  # it must not end the writer thread
                    _log.exception("log lines are lost")
                    well = False
                with self._changed:
                    self._unwritten += 0 if well else len(entries)
                for entry in entries:
                    entry.tell(well)
            with self._changed:
                for entry in taken:
                    self._bytes -= len(entry.line)
                    self._of_file[entry.file] -= len(entry.line)
                self._changed.notify_all()
            time.sleep(_PAUSE_S)


@cache
def log_queue() -> LogQueue:
    """Returns the queue of this process, which is made once."""
    return LogQueue()
