"""The endpoint's logs: one line a request, without its words; the words besides, only where they were asked for."""

from __future__ import annotations

import heapq
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_MAX_ASKED = 200  # a model id as sent may be anything


def utc_now() -> str:
    """The time of day as a record's `time`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class RequestRecord:
    """One request as the access log keeps it: who, which model, how it ended, how long; no prompt and no answer."""

    time: str
    """When it came, UTC, ISO 8601."""
    request: str
    """Its id, as the answer's x-request-id."""
    key: str | None
    """Name of the API key; None where none is needed."""
    route: str
    """chat or completions."""
    asked: str
    """Model id as sent, cut at 200 characters."""
    answered: str | None = None
    """Concrete id that answered."""
    alias: str | None = None
    """champion or challenger, where an alias led there."""
    status: int = 200
    code: str | None = None
    """The error's code."""
    stream: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ttft_ms: float | None = None
    total_ms: float | None = None
    shadow: bool = False
    """Asked besides the champion; nobody saw the answer."""
    agrees: bool | None = None
    """Of a shadow: it answered the champion's text, and called the same tools with the same arguments."""


@dataclass(frozen=True)
class PromptRecord:
    """The words of one answered request."""

    time: str
    request: str
    model: str
    """Concrete id that answered."""
    asked: Any
    """The prompt, or the list of messages."""
    answer: str
    key: str | None = None
    """Name of the API key: ids may be chosen by clients, so that one alone says not whose request it is."""


_WORDS = tuple(field.name for field in fields(PromptRecord) if field.name != "key")  # which older logs lack


class RecordLog:
    """Appends to `access-<replica>.jsonl` and `requests-<replica>.jsonl`; a disk that fails never fails a request.

    Args:
        directory: Where; made with mode 0700. The files have mode 0600.
        replica: Who writes: each replica its own files.
        prompts: Keep prompts and answers too.
    """

    def __init__(self, directory: Path, replica: str, prompts: bool) -> None:
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", replica)[:120]
        self.prompts = prompts
        self._access = LineFile(directory / f"access-{name}.jsonl")
        self._requests = LineFile(directory / f"requests-{name}.jsonl")

    def write(self, record: RequestRecord) -> None:
        """Adds a line to the access log."""
        self._access.write({**asdict(record), "asked": record.asked[:_MAX_ASKED]})

    def write_prompt(self, request_id: str, key: str | None, model: str, asked: Any, answer: str) -> None:
        """Keeps the words of an answered request, where that was asked for."""
        if self.prompts:
            self._requests.write(asdict(PromptRecord(utc_now(), request_id, model, asked, answer, key)))


class LineFile:
    """A JSONL file that is only appended to, a whole line in one write; also after a rotation and a full disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        self._whole = True
        self._lost = 0

    def write(self, value: dict[str, Any]) -> bool:
        """Adds a line; False, told to the program's log once, where that is impossible."""
        try:
            line = (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
            handle = self._open()
            if not self._whole:
                line = b"\n" + line
            self._whole = os.write(handle, line) == len(line)
            if not self._whole:
                raise OSError("the disk took a part of a line")
        except (OSError, ValueError, TypeError) as error:
            if not self._lost:
                _log.error("%s: records are lost: %s", self._path, error)
            self._lost += 1
            return False
        if self._lost:
            _log.error("%s: written again; %d records were lost", self._path, self._lost)
            self._lost = 0
        return True

    def _open(self) -> int:
        """The open file; a new one where the old was moved away."""
        if self._handle is not None:
            try:
                if os.path.samestat(os.fstat(self._handle), os.stat(self._path)):
                    return self._handle
            except FileNotFoundError:
                pass  # rotated: a new file is made below
            os.close(self._handle)
            self._handle = None
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(self._path, flags, 0o600)
        size = os.fstat(handle).st_size
        self._whole = size == 0 or os.pread(handle, 1, size - 1) == b"\n"  # a killed writer left half a line
        self._handle = handle
        return handle


def read_records(directory: Path, since: datetime | None = None) -> Iterator[RequestRecord]:
    """The access logs of all replicas, oldest first.

    Args:
        directory: The endpoint's log directory.
        since: Leave out what came before; UTC where it has no zone.
    """
    known = {field.name for field in fields(RequestRecord)}
    for line in _merged(directory, "access-*.jsonl", since):
        try:
            yield RequestRecord(**{name: value for name, value in line.items() if name in known})
        except TypeError:
            _log.warning("%s: left out a line that is no record", directory)


def read_prompts(directory: Path, since: datetime | None = None) -> Iterator[PromptRecord]:
    """The logged words of all replicas, oldest first; none where they were not asked for."""
    for line in _merged(directory, "requests-*.jsonl", since):
        try:
            yield PromptRecord(**{name: line[name] for name in _WORDS}, key=line.get("key"))
        except KeyError:
            _log.warning("%s: left out a line that is no request", directory)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a JSONL log; one that is broken (a killed writer's) is left out."""
    with path.open("rb") as stream:
        for line in stream:
            try:
                value = json.loads(line) if line.strip() else None
            except ValueError:
                _log.warning("%s: left out a broken line", path)
                continue
            if isinstance(value, dict) and isinstance(value.get("time"), str):
                yield value


def _merged(directory: Path, pattern: str, since: datetime | None) -> Iterator[dict[str, Any]]:
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    first = since.astimezone(UTC).isoformat(timespec="milliseconds") if since else ""
    logs = [read_lines(path) for path in sorted(directory.glob(pattern))]
    for line in heapq.merge(*logs, key=lambda line: str(line["time"])):
        if line["time"] >= first:
            yield line
