"""Limits how much one request may ask for, and how many requests a key may have at once, before the engine is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.settings import Limits


class Places:
    """Limits how many requests of each API key are answered at once.

    Args:
        most: Most concurrent requests of one key.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: dict[str | None, int] = {}

    @contextmanager
    def take(self, key: str | None) -> Iterator[None]:
        """Counts a request of this key while the block runs.

        Raises:
            RequestError: 429, the key has as many requests as it may.
        """
        taken = self._taken.get(key, 0)
        if taken >= self._most:
            raise RequestError(429, f"Rate limit: {self._most} requests at once; try again.", "rate_limit_exceeded")
        self._taken[key] = taken + 1
        try:
            yield
        finally:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]


def check_request(body: Any, limits: Limits, max_model_len: int) -> None:
    """Refuses a parsed completion or chat request that asks for too much.

    Raises:
        RequestError: 400, with the name of the field that is too large.
    """
    prompts = _prompts(getattr(body, "prompt", None))
    answers = (getattr(body, "n", None) or 1) * prompts
    if answers > limits.max_n:
        raise _too_much("n", f"{answers} answers", f"{limits.max_n} in one request")
    most = limits.max_tokens or max_model_len
    for name in ("max_tokens", "max_completion_tokens", "min_tokens"):
        value = getattr(body, name, None)
        if value is not None and value > most:
            raise _too_much(name, f"{value} tokens", f"{most} in one answer")


def _prompts(prompt: Any) -> int:
    """Returns the number of prompts in a text, a list of texts, a list of tokens, or a list of lists of tokens."""
    return len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1


def _too_much(param: str, asked: str, most: str) -> RequestError:
    return RequestError(400, f"{param}: {asked} are above the limit of {most}", "invalid_value", param)
