"""`POST /v1/feedback`: keeps a client's rating of an answer that it got, beside the access log."""

from __future__ import annotations

import asyncio
import json
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from raytune_ft.config.model import Strict
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.records.line_file import MOST_BYTES, LineFile, as_line
from raytune_ft.serving.records.log_queue import log_queue
from raytune_ft.serving.records.records import utc_now

MOST_PER_ANSWER = 4
"""Most feedbacks on one answer that a replica keeps; the last one counts."""
_REMEMBERED = 10_000  # most answers of this replica that are kept in memory, about 2 MB
_LOOKS, _PATIENCE_S = 2, 5.0  # threads that search the logs, and how long one request waits for disks
_LOGS, _TAIL_BYTES = 16, 1 << 20  # how many of the newest access logs are searched, and how much of the end of each


class Feedback(Strict):
    """The body of a feedback request."""

    request_id: str = Field(min_length=1, max_length=128)
    """The x-request-id of the answer that is rated."""
    score: float = Field(ge=-1, le=1)
    """From -1 (wrong) to 1 (right)."""
    completion: str | None = Field(None, min_length=1, max_length=65_536)
    """What the answer should have been."""
    comment: str | None = Field(None, max_length=4_096)
    """The reason for the score."""


class FeedbackDesk:
    """Accepts feedback on recent answers of this endpoint, from the API key that got the answer.

    Args:
        directory: The endpoint's log directory.
        replica: Name of this replica, which writes `feedback-<replica>.jsonl`.
        remembered: Most answers that are kept in memory; older ones are looked up in the access logs.
        most_bytes: Most bytes of all feedback files in the directory; the oldest are removed.
    """

    def __init__(
        self, directory: Path, replica: str, remembered: int = _REMEMBERED, most_bytes: int = MOST_BYTES
    ) -> None:
        self._directory, self._remembered = directory, remembered
        self._file = LineFile(directory / f"feedback-{replica}.jsonl", most_bytes)
        self._readers = ThreadPoolExecutor(_LOOKS, "raytune-ft-feedback")
        self._given: OrderedDict[tuple[str, str | None], int] = OrderedDict()  # (request id, key) -> feedbacks so far

    def answered(self, request: str, key: str | None) -> None:
        """Remembers that `key` got a complete answer with this request id."""
        self._given.setdefault((request, key), 0)
        self._given.move_to_end((request, key))
        if len(self._given) > self._remembered:
            self._given.popitem(last=False)

    async def take(self, body: bytes, key: str | None) -> dict[str, Any]:
        """Writes the feedback to its log and returns the response's JSON.

        Raises:
            RequestError: 400 for a wrong body or too many feedbacks on one answer, 404 for a request id with which this
                key got no answer, 503 if the logs can't be read or written.
        """
        feedback = _parse(body)
        given = (feedback.request_id, key)
        if given not in self._given:
            if not await self._look(*given):
                what = "no answer was given lately under this id and to this key"
                raise RequestError(404, f"request_id: {what}", "request_not_found", "request_id")
            self.answered(*given)
        if self._given[given] >= MOST_PER_ANSWER:
            what = f"there are {MOST_PER_ANSWER} feedbacks on this answer already, and the last one counts"
            raise RequestError(400, f"request_id: {what}", "too_much_feedback", "request_id")
        self._given[given] += 1
        line = as_line({"time": utc_now(), "key": key, **feedback.model_dump(mode="json")})
        kept = await log_queue().written(self._file, line, _PATIENCE_S)
        if not kept:
            if kept is False and given in self._given:  # None: it may still be written, so it counts
                self._given[given] -= 1
            raise RequestError(503, "The feedback could not be kept.", "feedback_not_kept")
        return {"object": "feedback", "request_id": feedback.request_id, "score": feedback.score}

    async def _look(self, request: str, key: str | None) -> bool:
        """Runs `_in_logs` on separate threads, because the logs' storage may hang."""
        looking = asyncio.get_running_loop().run_in_executor(self._readers, self._in_logs, request, key)
        try:
            return await asyncio.wait_for(looking, _PATIENCE_S)
        except (TimeoutError, OSError):
            raise RequestError(503, "The logs can't be read now.", "feedback_not_kept") from None

    def _in_logs(self, request: str, key: str | None) -> bool:
        """Tells whether the access logs hold the answer, from another replica or from before a restart."""
        logs = sorted(self._directory.glob("access-*.jsonl"), key=lambda path: path.stat().st_mtime)[-_LOGS:]
        return any(_answers(line, request, key) for path in logs for line in _tail(path, request))


def _answers(line: bytes, request: str, key: str | None) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False  # the first line of a tail is usually cut
    wanted = {"request": request, "key": key, "status": 200, "shadow": False}
    return isinstance(record, dict) and all(record.get(name) == value for name, value in wanted.items())


def _tail(path: Path, request: str) -> list[bytes]:
    """Returns the lines near the end of a log that hold the request id."""
    sought = json.dumps(request, ensure_ascii=False).encode("utf-8", "backslashreplace")
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _TAIL_BYTES))
        return [line for line in stream.read(_TAIL_BYTES).split(b"\n") if sought in line]


def _parse(body: bytes) -> Feedback:
    try:
        return Feedback.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"{place}: {first['msg']}".removeprefix(": ")
        raise RequestError(400, message, "invalid_value", place or None) from None
