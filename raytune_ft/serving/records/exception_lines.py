"""Logs exceptions near requests by type and place only, because their texts may hold prompts."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from raytune_ft.errors import RaytuneError

_log = logging.getLogger(__name__)
_MOST_CAUSES = 8
_MOST_RELATED = 64
_DEEPEST = 6
_SHORTEST_TEXT = 4  # characters; shorter texts occur in too many lines to be replaced
_SHORT_TEXT = 16  # characters; shorter texts are replaced only where they are whole words
_OWN = "raytune_ft."
_FRAME = re.compile(r'^ *File "([\w./-]+)", line (\d+)', re.MULTILINE)


class AnswerBrokeOffError(Exception):
    """Ends a response that had begun; it replaces an exception whose text the server around the app would log."""


def place_of(error: BaseException) -> str:
    """Describes an exception and its causes by type and place, such as `ValueError in /x/y.py:12`, without their texts.

    System errors keep their number and its description: `OSError [Errno 28] No space left on device`.
    """
    found: list[str] = []
    at: BaseException | None = error
    while at is not None and len(found) < _MOST_CAUSES:
        found.append(type(at).__name__ + _number_of(at) + _raised_in(at))
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return ", from ".join(found)


def _number_of(error: BaseException) -> str:
    """Returns the number of a system error, without its text and file name: a prompt may have been tried as a path."""
    if not isinstance(error, OSError) or type(error).__module__ != "builtins" or not isinstance(error.errno, int):
        return ""
    return f" [Errno {error.errno}] {os.strerror(error.errno)}"


def _raised_in(error: BaseException) -> str:
    """Returns the place where an error was raised; for Ray's errors the last place in the remote traceback."""
    if isinstance(getattr(error, "cause", None), BaseException) and (elsewhere := _FRAME.findall(_safe(str, error))):
        file, line = elsewhere[-1]
        return f" in {file}:{line}"
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def told(error: BaseException) -> str:
    """Describes an error for the log.

    An error of this package is shown by its text, which never holds text of a request; any other by type and place.
    Ray wraps an error of another process in a class of its own, whose text is the whole traceback; the cause is used.
    """
    for each in (error, getattr(error, "cause", None)):
        if _is_own(each):
            return _safe(str, each)
    return place_of(error)


def _safe(write: Callable[[object], str], value: object) -> str:
    """Returns `str` or `repr` of any value, or its type's name if that method raises."""
    try:
        return write(value)
    except Exception:
        return type(value).__name__


def _is_own(error: object) -> bool:
    return isinstance(error, RaytuneError) and type(error).__module__.startswith(_OWN)


def keep_texts_out_of_logs() -> None:
    """Makes all log lines of this process show exceptions by type and place, not by text, whichever library logs them.

    Servers, asyncio, Ray and Python itself log uncaught exceptions with their traceback. The files and lines of the
    traceback stay. An exception is recognised as a line's message, among its arguments (also in lists and dicts), as
    its `exc_info`, and as the one that is handled while the line is written. In the last two cases its text, and the
    texts of its causes, are also replaced within the line's strings.

    It can't recognise a text that is logged after the exception was handled, a part of a text, a text of fewer than
    four characters, an object whose own `repr` quotes an exception, the fields of `extra=`, printed output, and other
    processes, such as vLLM's engine core.
    """
    made = logging.getLogRecordFactory()
    if isinstance(made, _WithoutTexts):
        return
    logging.setLogRecordFactory(_WithoutTexts(made))
    sys.excepthook = lambda kind, error, trace: _log.critical("uncaught exception", exc_info=(kind, error, trace))
    sys.unraisablehook = lambda ignored: _uncaught("exception ignored", ignored.exc_value)
    threading.excepthook = lambda thread: _uncaught("uncaught exception in a thread", thread.exc_value)


def _uncaught(what: str, error: BaseException | None) -> None:
    if not isinstance(error, SystemExit):  # SystemExit ends a thread silently
        _log.error(what, exc_info=error)


class _WithoutTexts:
    """A log record factory that shows exceptions by type and place."""

    def __init__(self, made: Callable[..., logging.LogRecord]) -> None:
        self._made = made

    def __call__(self, *args: Any, **options: Any) -> logging.LogRecord:
        record = self._made(*args, **options)
        raised = record.exc_info[1] if record.exc_info else None
        handled = sys.exc_info()[1]
        texts = _texts(handled) | _texts(raised, with_arguments=True)
        shown = _Shown(texts, of_asyncio=record.name == "asyncio")
        record.msg = shown.message(record.msg, has_arguments=bool(record.args))
        record.args = shown.value(record.args)
        if handled is not None or raised is not None:
            try:
                record.getMessage()
            except Exception:  # the arguments don't fit the format; logging would print them with the exception
                record.msg, record.args = _safe(str, record.msg), ()
        record.exc_info = None
        if raised is not None:
            record.exc_text = "".join((*traceback.format_tb(raised.__traceback__), place_of(raised)))
        return record


class _Shown:
    """Replaces exceptions and their texts in the message and the arguments of a log line.

    Args:
        texts: Text to replace -> its replacement.
        of_asyncio: The line is from asyncio, which logs callbacks with their arguments.
    """

    def __init__(self, texts: dict[str, str], *, of_asyncio: bool) -> None:
        self._texts = dict(sorted(texts.items(), key=lambda each: -len(each[0])))
        self._of_asyncio = of_asyncio

    def message(self, message: object, *, has_arguments: bool) -> object:
        """Returns the message to log; brackets in a format string are not those of a callback and stay."""
        if isinstance(message, str) and has_arguments:
            return self._replaced(message)
        return self.value(message)

    def value(self, value: Any, depth: int = 0) -> Any:
        """Returns the value to log, which is the same object if nothing in it is replaced."""
        if value is None or isinstance(value, int | float | bytes):
            return value
        if isinstance(value, BaseException):
            return told(value)
        if isinstance(value, str):
            return self._replaced(_without_arguments(value) if self._of_asyncio else value)
        if isinstance(value, list | tuple | set | frozenset | dict):
            return self._container(value, depth)
        if not self._texts:
            return value
        for write in (str, repr):
            if (changed := self._replaced(written := _safe(write, value))) != written:
                return changed
        return value

    def _container(self, value: Any, depth: int) -> Any:
        if depth == _DEEPEST:
            return f"{type(value).__name__} of {len(value)}"
        before = list(value.values() if isinstance(value, dict) else value)
        after = [self.value(each, depth + 1) for each in before]
        if all(new is old for new, old in zip(after, before, strict=True)):
            return value
        if isinstance(value, dict):
            return dict(zip(value, after, strict=True))
        return next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))(after)

    def _replaced(self, text: str) -> str:
        for found, name in self._texts.items():
            if found in text:
                whole = re.escape(found)
                pattern = whole if len(found) >= _SHORT_TEXT else rf"(?<![^\W_]){whole}(?![^\W_])"
                text = name.join(re.split(pattern, text))
        return text


def _without_arguments(text: str) -> str:
    """Replaces everything between the first and the last bracket by dots; there may be brackets in between."""
    first, last = text.find("("), text.rfind(")")
    return f"{text[: first + 1]}...{text[last:]}" if -1 < first < last - 1 else text


def _texts(raised: BaseException | None, *, with_arguments: bool = False) -> dict[str, str]:
    """Returns the texts of an exception and its causes that a line may quote, with the replacement of each.

    Args:
        raised: The exception, if any.
        with_arguments: Include the string arguments of the exceptions. They are left out for an exception that is only
            being handled: the key of a cache miss may well appear in the lines that log its loading.
    """
    related = list(islice(_related(raised), _MOST_RELATED))
    own_words = [_safe(str, error) for error in related if _is_own(error)]
    texts: dict[str, str] = {}
    for error in related:
        name = type(error).__name__ + _number_of(error)
        said = [_safe(str, error), _safe(repr, error), *getattr(error, "__notes__", ())]
        said += error.args if with_arguments else ()
        said = [each for each in said if isinstance(each, str)]
        for text in (*said, *(repr(each)[1:-1] for each in said)):  # also with escapes, as within a list's repr
            if len(text) >= _SHORTEST_TEXT and text not in name and not any(text in own for own in own_words):
                texts[text] = name
    return texts


def _related(raised: BaseException | None) -> Iterator[BaseException]:
    """Yields an exception and all related ones once: causes, contexts, group members, and those that others wrap."""
    waiting: list[object] = [raised]
    seen: set[int] = set()
    while waiting:
        error = waiting.pop(0)
        if not isinstance(error, BaseException) or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        waiting += (error.__cause__, error.__context__, getattr(error, "cause", None), *members, *error.args)
