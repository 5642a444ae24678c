"""What a program's log says of an exception near a request: type and place, not its text, which may hold prompts."""

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
_SHORTEST_TEXT = 4  # characters: less than that is in too many lines to be replaced
_SHORT_TEXT = 16  # characters: less than that is replaced only where it stands as a word of its own
_OWN = "raytune_ft."
_FRAME = re.compile(r'^ *File "([\w./-]+)", line (\d+)', re.MULTILINE)


class AnswerBrokeOffError(Exception):
    """Ends an answer that had begun; in the place of an exception that servers around the app would log whole."""


def place_of(error: BaseException) -> str:
    """`ValueError in /x/y.py:12`, and the same of what caused it; no text of theirs.

    The system's errors keep their number with the system's words for it: `OSError [Errno 28] No space left on device`.
    """
    found: list[str] = []
    at: BaseException | None = error
    while at is not None and len(found) < _MOST_CAUSES:
        found.append(type(at).__name__ + _number_of(at) + _raised_in(at))
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return ", from ".join(found)


def _number_of(error: BaseException) -> str:
    """Not the error's own words, nor its file name: a library may have tried a prompt as a path."""
    if not isinstance(error, OSError) or type(error).__module__ != "builtins" or not isinstance(error.errno, int):
        return ""
    return f" [Errno {error.errno}] {os.strerror(error.errno)}"


def _raised_in(error: BaseException) -> str:
    """Of Ray's errors the other process's place, the last of the traceback that is their text."""
    if isinstance(getattr(error, "cause", None), BaseException) and (elsewhere := _FRAME.findall(_safe(str, error))):
        file, line = elsewhere[-1]
        return f" in {file}:{line}"
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def told(error: BaseException) -> str:
    """An error of this package in its own words, which hold no words of a request; of any other type and place.

    Ray hands on what another process raised as a class of its own, whose text is that process's whole traceback.
    """
    for each in (error, getattr(error, "cause", None)):
        if _is_own(each):
            return _safe(str, each)
    return place_of(error)


def _safe(write: Callable[[object], str], value: object) -> str:
    """`str` or `repr` of whatever it is; one whose own method fails must not fail the line that tells of it."""
    try:
        return write(value)
    except Exception:
        return type(value).__name__


def _is_own(error: object) -> bool:
    return isinstance(error, RaytuneError) and type(error).__module__.startswith(_OWN)


def keep_texts_out_of_logs() -> None:
    """From here on log lines of this process, whoever writes them, hold exceptions as type and place, not as text.

    Servers log what an app raises with its traceback, as do asyncio, Ray and Python itself of what nobody catches. The
    files and lines of the traceback stay. An exception is found as a line's message, among its arguments (in lists and
    dictionaries too), behind it (`exc_info`), and where the line is written while it is handled; then also its whole
    text is replaced in the line's strings, and that of all that caused it.

    What can't be found: a text that a library puts in a line once the exception is no longer handled, a part of a text,
    one of fewer than four characters, an object whose own `repr` quotes an exception, the fields of `extra=`, what is
    printed and not logged, and other processes, such as vLLM's engine core.
    """
    made = logging.getLogRecordFactory()
    if isinstance(made, _WithoutTexts):
        return
    logging.setLogRecordFactory(_WithoutTexts(made))
    sys.excepthook = lambda kind, error, trace: _log.critical("uncaught exception", exc_info=(kind, error, trace))
    sys.unraisablehook = lambda ignored: _uncaught("exception ignored", ignored.exc_value)
    threading.excepthook = lambda thread: _uncaught("uncaught exception in a thread", thread.exc_value)


def _uncaught(what: str, error: BaseException | None) -> None:
    if not isinstance(error, SystemExit):  # which ends a thread in silence
        _log.error(what, exc_info=error)


class _WithoutTexts:
    """A factory of log records that hold exceptions as type and place."""

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
            except Exception:  # its arguments do not fit; logging would print that with what is handled here
                record.msg, record.args = _safe(str, record.msg), ()
        record.exc_info = None
        if raised is not None:
            record.exc_text = "".join((*traceback.format_tb(raised.__traceback__), place_of(raised)))
        return record


class _Shown:
    """What a line shows of its message and arguments.

    Args:
        texts: What is replaced in strings, and by what.
        of_asyncio: The line is asyncio's, which writes callbacks with their arguments.
    """

    def __init__(self, texts: dict[str, str], *, of_asyncio: bool) -> None:
        self._texts = dict(sorted(texts.items(), key=lambda each: -len(each[0])))
        self._of_asyncio = of_asyncio

    def message(self, message: object, *, has_arguments: bool) -> object:
        """A message with arguments is a format, whose brackets are not those of a callback."""
        if isinstance(message, str) and has_arguments:
            return self._replaced(message)
        return self.value(message)

    def value(self, value: Any, depth: int = 0) -> Any:
        """The value itself where there is nothing to replace in it."""
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
    """From the first bracket to the last: what stands between may hold brackets of its own."""
    first, last = text.find("("), text.rfind(")")
    return f"{text[: first + 1]}...{text[last:]}" if -1 < first < last - 1 else text


def _texts(raised: BaseException | None, *, with_arguments: bool = False) -> dict[str, str]:
    """What lines may quote of an exception and of all that led to it, each with what is said in its place.

    Args:
        raised: The exception, if any.
        with_arguments: Also the strings that it was made of. Where it is only handled they are left: a key that a cache
            does not hold is no secret of the lines that then tell of its loading.
    """
    related = list(islice(_related(raised), _MOST_RELATED))
    own_words = [_safe(str, error) for error in related if _is_own(error)]
    texts: dict[str, str] = {}
    for error in related:
        name = type(error).__name__ + _number_of(error)
        said = [_safe(str, error), _safe(repr, error), *getattr(error, "__notes__", ())]
        said += error.args if with_arguments else ()
        said = [each for each in said if isinstance(each, str)]
        for text in (*said, *(repr(each)[1:-1] for each in said)):  # quoted once more, as in a list
            if len(text) >= _SHORTEST_TEXT and text not in name and not any(text in own for own in own_words):
                texts[text] = name
    return texts


def _related(raised: BaseException | None) -> Iterator[BaseException]:
    """Causes and contexts, the members of groups, what Ray and others hand on in an error of their own; each once."""
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
