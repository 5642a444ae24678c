"""Reads an answer on its way from the engine to the client: its tokens, and its words where somebody needs them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from raytune_ft.serving.openai_errors import RequestError

_DATA = "data: "
DONE = "data: [DONE]\n\n"


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
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.failure: RequestError | None = None
        self.done = False

    @property
    def texts(self) -> list[str]:
        """What was said, one text a choice."""
        return [self._texts[index] for index in sorted(self._texts)]

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
            self._texts[int(choice.get("index", 0))] += choice.get("text") or said.get("content") or ""

    def _fail(self, error: Any) -> None:
        told = error if isinstance(error, Mapping) else {}
        status = told.get("code")
        self.failure = RequestError(
            status if isinstance(status, int) and 400 <= status < 600 else 500,
            str(told.get("message", "the answer broke off")),
            str(told.get("type") or "server_error"),
        )


def _parsed(chunk: str) -> dict[str, Any] | None:
    try:
        value = json.loads(chunk.removeprefix(_DATA))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
