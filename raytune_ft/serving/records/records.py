"""The endpoint's logs: one line a request, without its words; the words besides, only where they were asked for."""

from __future__ import annotations

import heapq
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from raytune_ft.serving.records.line_file import MOST_BYTES, NO_LINE, LineFile, as_line
from raytune_ft.serving.records.log_queue import LogQueue

_log = logging.getLogger(__name__)
_MAX_ASKED = 200  # a model id as sent may be anything
_SHARE_OF_REFUSED = 0.25  # of the lines that wait: who is refused may come as often as they like


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


@dataclass(frozen=True)
class UnkeyedPrompt(PromptRecord):
    """One of a log that kept no keys: nobody knows whose request it was."""


_WORDS = tuple(field.name for field in fields(PromptRecord) if field.name != "key")  # which older logs lack


class RecordLog:
    """Appends to `access-<replica>.jsonl` and `requests-<replica>.jsonl`; a disk that fails never fails a request.

    Args:
        directory: Where; made with mode 0700. The files have mode 0600.
        replica: Who writes: each replica its own files.
        prompts: Keep prompts and answers too.
        queue: Writes the lines in a thread; by default they are written at once.
        kind: What the files of records are called in place of `access`.
        most_bytes: Of all files of one kind in the directory.
    """

    def __init__(
        self,
        directory: Path,
        replica: str,
        prompts: bool,
        *,
        queue: LogQueue | None = None,
        kind: Literal["access", "refused"] = "access",
        most_bytes: int = MOST_BYTES,
    ) -> None:
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", replica)[:120]
        self.prompts, self._queue = prompts, queue
        self._share = _SHARE_OF_REFUSED if kind == "refused" else 1.0
        self._access = LineFile(directory / f"{kind}-{name}.jsonl", most_bytes)
        self._requests = LineFile(directory / f"requests-{name}.jsonl", most_bytes)

    def write(self, record: RequestRecord) -> None:
        """Adds a line to the access log."""
        self._add(self._access, {**asdict(record), "asked": record.asked[:_MAX_ASKED]})

    def write_prompt(self, request_id: str, key: str | None, model: str, asked: Any, answer: str) -> None:
        """Keeps the words of an answered request, where that was asked for."""
        if self.prompts:
            words = PromptRecord(utc_now(), request_id, model, asked, answer, key)
            self._add(self._requests, dict(vars(words)))  # no copy of what was asked, which may be deep

    def _add(self, file: LineFile, value: dict[str, Any]) -> None:
        if self._queue is None:
            file.write(value)
        else:
            try:
                line = as_line(value)
            except NO_LINE as error:  # a line that can't be kept fails no request
                self._queue.unwritable(error)
            else:
                self._queue.put(file, line, share=self._share)


def read_records(directory: Path, since: datetime | None = None) -> Iterator[RequestRecord]:
    """The access logs of all replicas, oldest first, with what their doors refused.

    Args:
        directory: The endpoint's log directory.
        since: Leave out what came before; UTC where it has no zone.
    """
    known = {field.name for field in fields(RequestRecord)}
    for line in _merged(directory, ("access-*.jsonl", "refused-*.jsonl"), since):
        try:
            yield RequestRecord(**{name: value for name, value in line.items() if name in known})
        except TypeError:
            _log.warning("%s: left out a line that is no record", directory)


def read_prompts(directory: Path, since: datetime | None = None) -> Iterator[PromptRecord]:
    """The logged words of all replicas, oldest first; none where they were not asked for."""
    for line in _merged(directory, ("requests-*.jsonl",), since):
        try:
            words = {name: line[name] for name in _WORDS}
        except KeyError:
            words = {}
        if isinstance(words.get("request"), str):
            yield (PromptRecord if "key" in line else UnkeyedPrompt)(**words, key=line.get("key"))
        else:
            _log.warning("%s: left out a line that is no request", directory)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a JSONL log; one that is broken (a killed writer's) is left out."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:  # the oldest go
        return
    with stream:
        for line in stream:
            try:
                value = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):  # the latter of thousands of brackets
                _log.warning("%s: left out a broken line", path)
                continue
            if isinstance(value, dict) and isinstance(value.get("time"), str):
                yield value


def _merged(directory: Path, patterns: Sequence[str], since: datetime | None) -> Iterator[dict[str, Any]]:
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    first = since.astimezone(UTC).isoformat(timespec="milliseconds") if since else ""
    logs = [read_lines(path) for pattern in patterns for path in sorted(directory.glob(pattern))]
    for line in heapq.merge(*logs, key=lambda line: str(line["time"])):
        if line["time"] >= first:
            yield line
