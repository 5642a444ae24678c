"""Reads an answer on its way from the engine to the client: its tokens, and its words where somebody needs them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytune_ft.serving.openai_errors import RequestError

_DATA = "data: "
DONE = "data: [DONE]\n\n"


@dataclass(frozen=True)
class Answer:
    """What one choice says: two answers are equal where a client would do the same with both."""

    text: str
    calls: tuple[tuple[str, str], ...] = ()
    """Name and arguments of each tool that is called; arguments that are JSON in one spelling. Ids are made up anew for
    each answer, and don't count."""


class Listener:
    """Of one answer, streamed or whole.

    Most chunks of a stream pass unread: they are parsed only where words are wanted.

    Args:
        words: Keep what is said.
        show_usage: The client asked for the stream's usage; the engine is asked for it in any case.
    """

    def __init__(self, *, words: bool = False, show_usage: bool = False) -> None:
        self._words, self._show_usage = words, show_usage
        self._texts: defaultdict[int, str] = defaultdict(str)
        self._calls: defaultdict[int, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(lambda: ["", ""]))
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.failure: RequestError | None = None
        self.done = False

    @property
    def texts(self) -> list[str]:
        """What was said, one text a choice."""
        return [self._texts[index] for index in sorted(self._texts)]

    @property
    def answers(self) -> list[Answer]:
        """What was said and which tools were called, one answer a choice."""
        return [Answer(self._texts[index], self._called(index)) for index in sorted(self._texts)]

    def whole(self, answer: Mapping[str, Any]) -> None:
        """Reads an answer that is not streamed."""
        self._usage(answer.get("usage"))
        if self._words:
            self._hear(answer)

    def chunk(self, chunk: str) -> str:
        """Reads a chunk of a stream and returns what the client gets of it."""
        if chunk == DONE:
            self.done = True
            return chunk
        # Within JSON's strings a quote is escaped, so neither can be a part of what the model says.
        usage, failed = '"usage":{' in chunk, chunk.startswith('data: {"error":')
        if not (usage or failed or self._words):
            return chunk
        value = _parsed(chunk)
        if value is None:
            return chunk
        if failed:
            self._fail(value.get("error"))
        if usage:
            self._usage(value.get("usage"))
        if usage and not value.get("choices"):
            return chunk if self._show_usage else ""
        if self._words:
            self._hear(value)
        return chunk

    def _usage(self, usage: Any) -> None:
        if isinstance(usage, Mapping):
            self.prompt_tokens, self.completion_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")

    def _hear(self, value: Mapping[str, Any]) -> None:
        for choice in value.get("choices") or ():
            said = choice.get("delta") or choice.get("message") or {}
            index = int(choice.get("index", 0))
            self._texts[index] += choice.get("text") or said.get("content") or ""
            for place, call in enumerate(said.get("tool_calls") or ()):
                told, heard = call.get("function") or {}, self._calls[index][call.get("index", place)]
                heard[0] += told.get("name") or ""
                heard[1] += told.get("arguments") or ""

    def _called(self, choice: int) -> tuple[tuple[str, str], ...]:
        calls = self._calls[choice]
        return tuple((name, _spelled(arguments)) for _, (name, arguments) in sorted(calls.items()))

    def _fail(self, error: Any) -> None:
        told = error if isinstance(error, Mapping) else {}
        status = told.get("code")
        self.failure = RequestError(
            status if isinstance(status, int) and 400 <= status < 600 else 500,
            str(told.get("message", "the answer broke off")),
            str(told.get("type") or "server_error"),
        )


def _spelled(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments


def _parsed(chunk: str) -> dict[str, Any] | None:
    try:
        value = json.loads(chunk.removeprefix(_DATA))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
