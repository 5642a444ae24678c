"""What a program's log says of an exception near a request: type and place, not its text, which may hold prompts."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable
from typing import Any

from raytune_ft.errors import RaytuneError

_MOST_CAUSES = 8
_OWN = "raytune_ft."
_FRAME = re.compile(r'^ *File "([\w./-]+)", line (\d+)', re.MULTILINE)


class AnswerBrokeOffError(Exception):
    """Ends an answer that had begun; in the place of an exception that servers around the app would log whole."""


def place_of(error: BaseException) -> str:
    """`ValueError in /x/y.py:12`, and the same of what caused it; no text of theirs."""
    found: list[str] = []
    at: BaseException | None = error
    while at is not None and len(found) < _MOST_CAUSES:
        found.append(type(at).__name__ + _raised_in(at))
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return ", from ".join(found)


def _raised_in(error: BaseException) -> str:
    """Of Ray's errors the other process's place, the last of the traceback that is their text."""
    if isinstance(getattr(error, "cause", None), BaseException) and (elsewhere := _FRAME.findall(str(error))):
        file, line = elsewhere[-1]
        return f" in {file}:{line}"
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def told(error: BaseException) -> str:
    """An error of this package in its own words, which hold no words of a request; of any other type and place.

    Ray hands on what another process raised as a class of its own, whose text is that process's whole traceback.
    """
    for each in (error, getattr(error, "cause", None)):
        if isinstance(each, RaytuneError) and type(each).__module__.startswith(_OWN):
            return str(each)
    return place_of(error)


def keep_texts_out_of_logs() -> None:
    """From here on no log line of this process, whoever writes it, holds the text of an exception.

    Servers log what an app raises with its traceback, as do asyncio and Ray. The files and lines of the traceback stay.
    """
    made = logging.getLogRecordFactory()
    if not isinstance(made, _WithoutTexts):
        logging.setLogRecordFactory(_WithoutTexts(made))


class _WithoutTexts:
    """A factory of log records: an exception becomes its type and place, among the arguments and behind the line."""

    def __init__(self, made: Callable[..., logging.LogRecord]) -> None:
        self._made = made

    def __call__(self, *args: Any, **options: Any) -> logging.LogRecord:
        record = self._made(*args, **options)
        if isinstance(record.args, tuple):
            record.args = tuple(_shown(each) for each in record.args)
        raised = record.exc_info[1] if record.exc_info else None
        record.exc_info = None
        if raised is not None:
            record.exc_text = "".join((*traceback.format_tb(raised.__traceback__), place_of(raised)))
            try:
                message = record.getMessage()
            except (TypeError, ValueError):  # its arguments do not fit; logging itself would only say so
                message = str(record.msg)
            for text in filter(None, (repr(raised), str(raised))):  # asyncio writes a task with what it raised
                message = message.replace(text, type(raised).__name__)
            record.msg, record.args = message, None
        return record


def _shown(value: object) -> object:
    """The system's own errors (a full disk, a missing file) say nothing of a request."""
    return told(value) if isinstance(value, Exception) and not isinstance(value, OSError) else value
