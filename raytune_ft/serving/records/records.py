"""The endpoint's logs: an access log without texts, and a log of prompts and answers where that was asked for."""

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
_MAX_ASKED = 200  # characters kept of a model id, which the client may choose freely
_SHARE_OF_REFUSED = 0.25  # fraction of the log queue for refusals, since a refused client may flood it


def utc_now() -> str:
    """Returns the present time in the format of a record's `time`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class RequestRecord:
    """One line of the access log, which holds neither prompt nor answer."""

    time: str
    """Time of arrival, UTC, ISO 8601."""
    request: str
    """The x-request-id of the response."""
    key: str | None
    """Name of the API key; None if the request had or needed none."""
    route: str
    """`chat` or `completions`; refused requests may also have `models`, `feedback` or `other`."""
    asked: str
    """Model id as the client sent it, cut at 200 characters."""
    answered: str | None = None
    """Concrete id of the version that answered."""
    alias: str | None = None
    """The alias that was resolved to that version, such as `champion`, or None."""
    status: int = 200
    code: str | None = None
    """Code of the error, or None."""
    stream: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ttft_ms: float | None = None
    total_ms: float | None = None
    shadow: bool = False
    """This is a shadow copy, whose answer no client saw."""
    agrees: bool | None = None
    """For a shadow copy: whether text and tool calls equal those of the version that answered the client."""


@dataclass(frozen=True)
class PromptRecord:
    """Prompt and answer of one request."""

    time: str
    request: str
    model: str
    """Concrete id of the version that answered."""
    asked: Any
    """The prompt, or the list of messages."""
    answer: str
    key: str | None = None
    """Name of the API key; it is needed because clients may choose request ids, which are thus not unique."""


@dataclass(frozen=True)
class UnkeyedPrompt(PromptRecord):
    """A record of an older log, which kept no key names, so that the owner of the request is unknown."""


_WORDS = tuple(field.name for field in fields(PromptRecord) if field.name != "key")  # older logs lack the key


class RecordLog:
    """Appends to `access-<replica>.jsonl` and `requests-<replica>.jsonl`; a failing disk never fails a request.

    Args:
        directory: The log directory, which is created with mode 0700. The files have mode 0600.
        replica: Name of the replica; each replica has its own files.
        prompts: Keep prompts and answers too.
        queue: Writes the lines in a thread; by default they are written at once.
        kind: The first part of the file names of request records.
        most_bytes: Most bytes of all files of one kind in the directory.
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
        """Adds prompt and answer of a request to the log of prompts, if `prompts` is set."""
        if self.prompts:
            words = PromptRecord(utc_now(), request_id, model, asked, answer, key)
            self._add(self._requests, dict(vars(words)))  # not `asdict`, which would copy deeply nested messages

    def _add(self, file: LineFile, value: dict[str, Any]) -> None:
        if self._queue is None:
            file.write(value)
        else:
            try:
                line = as_line(value)
            except NO_LINE as error:  # a record that can't be encoded must not fail the request
                self._queue.unwritable(error)
            else:
                self._queue.put(file, line, share=self._share)


def read_records(directory: Path, since: datetime | None = None) -> Iterator[RequestRecord]:
    """Yields the access records of all replicas, the oldest first, including refused requests.

    Args:
        directory: The endpoint's log directory.
        since: Leave out earlier records; without a time zone it is UTC.
    """
    known = {field.name for field in fields(RequestRecord)}
    for line in _merged(directory, ("access-*.jsonl", "refused-*.jsonl"), since):
        try:
            yield RequestRecord(**{name: value for name, value in line.items() if name in known})
        except TypeError:
            _log.warning("%s: left out a line that is no record", directory)


def read_prompts(directory: Path, since: datetime | None = None) -> Iterator[PromptRecord]:
    """Yields the logged prompts and answers of all replicas, the oldest first; none if they were not logged.

    Args:
        directory: The endpoint's log directory.
        since: Leave out earlier records; without a time zone it is UTC.
    """
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
    """Yields the complete lines of a JSONL log; a broken line, as a killed writer leaves it, is left out."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:  # a writer removed it, because the oldest logs are deleted
        return
    with stream:
        for line in stream:
            try:
                value = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):  # thousands of nested brackets raise RecursionError
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
