"""Reads an answer on its way from the engine to the client: its token counts, and its text where that is needed."""

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
    """The content of one choice; two answers are equal if a client would act the same on both."""

    text: str
    calls: tuple[tuple[str, str], ...] = ()
    """Name and arguments of each tool call; JSON arguments are normalised. Call ids are random and are left out."""


class Listener:
    """Reads one answer, streamed or not.

    Most chunks of a stream are passed on without parsing, unless the text is wanted.

    Args:
        words: Keep the answer's text and tool calls.
        show_usage: The client asked for the stream's usage. The engine always sends it; otherwise it is filtered out.
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
        """The text of each choice."""
        return [self._texts[index] for index in sorted(self._texts)]

    @property
    def answers(self) -> list[Answer]:
        """The text and the tool calls of each choice."""
        return [Answer(self._texts[index], self._called(index)) for index in sorted(self._texts)]

    def whole(self, answer: Mapping[str, Any]) -> None:
        """Reads an answer that is not streamed."""
        self._usage(answer.get("usage"))
        if self._words:
            self._hear(answer)

    def chunk(self, chunk: str) -> str:
        """Reads a chunk of a stream and returns what to send to the client, "" for nothing."""
        if chunk == DONE:
            self.done = True
            return chunk
        # Quotes are escaped within JSON strings, so neither pattern can occur in the model's text.
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
