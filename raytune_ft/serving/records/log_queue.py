"""Lines on their way to the logs: one thread of this process writes them, and no request waits for its disk."""

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
_PAUSE_S = 0.02  # a thread that woke for each line would take the interpreter from the requests each time
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
            except Exception:  # without the thread that calls this nothing more would be written
                _log.exception("who waited for a log line can't be told of it")


class LogQueue:
    """Takes lines up to a size; what comes on top of that is dropped and counted.

    Args:
        most_bytes: Of the lines that wait.
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
        """Lines that no file has: there was no room for them, or the disk refused them."""
        return self._dropped + self._unwritten

    def put(
        self, file: LineFile, line: bytes, told: Callable[[bool], None] | None = None, *, share: float = 1.0
    ) -> bool:
        """Takes a line, or drops it; never waits.

        Args:
            file: Where it goes.
            line: With its end.
            told: Called by the writer, with whether the file has it.
            share: Of the size: so much of it the file's lines may take, so that they displace no others.
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
            if self._writer is None:  # not before: a process that is copied would leave its threads behind
                self._writer = threading.Thread(target=self._write, name="raytune-ft-logs", daemon=True)
                self._writer.start()
                atexit.register(self.flush, 2.0)
            if len(self._waiting) == 1:
                self._changed.notify_all()
        return True

    def unwritable(self, error: Exception) -> None:
        """Counts what could not be made a line."""
        _log.error("a log line is lost: %s", type(error).__name__)
        with self._changed:
            self._unwritten += 1

    async def written(self, file: LineFile, line: bytes, timeout_s: float) -> bool | None:
        """Whether the file has the line; None where that is not known after `timeout_s`: it may come to have it."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        kept: list[bool] = []

        def told(well: bool) -> None:
            kept.append(well)
            with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                loop.call_soon_threadsafe(done.set)

        if not self.put(file, line, told):
            return False
        try:
            await asyncio.wait_for(done.wait(), timeout_s)
        except TimeoutError:
            return None
        return kept[0]

    def flush(self, timeout_s: float) -> bool:
        """Waits until nothing waits; False where that takes longer."""
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
                except Exception:  # without this thread nothing more would be written
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
    """The one of this process."""
    return LogQueue()
