"""Asks an endpoint through the `openai` client, in the prompt form that the model was trained on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytune_ft.config.data import PromptForm
from raytune_ft.data.rows import Question
from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.serving.local.client import openai_client

if TYPE_CHECKING:
    from openai import OpenAI

    from raytune_ft.serving.local.session import Endpoint


@dataclass(frozen=True)
class Answer:
    """A model's answer and its latency."""

    model: str
    """The id that answered; an alias is resolved to its version."""
    text: str
    latency_s: float


def client(endpoint: Endpoint, retries: int = 0) -> OpenAI:
    """The `openai` client of an endpoint."""
    return openai_client(endpoint.base_url, endpoint.api_key, retries)


def split_row(row: Question | Mapping[str, Any]) -> tuple[Question, str | None]:
    """Splits a row into the question and the true answer, which is None where the row has none.

    Args:
        row: A prompt, messages, {"prompt", "completion"} or {"messages"}; a prompt may be messages too, as in data of
            preferences.
    """
    if isinstance(row, str | list):
        return row, None
    if "prompt" in row:
        prompt = row["prompt"]
        return prompt if isinstance(prompt, list) else str(prompt), row.get("completion")
    if "messages" not in row:
        raise InputError("row", f"has {sorted(row)}", 'needs "prompt" or "messages"')
    messages = [dict(message) for message in row["messages"]]
    if messages and messages[-1].get("role") == "assistant":
        return messages[:-1], str(messages[-1]["content"])
    return messages, None


def ask(
    endpoint: Endpoint, model: str, row: Question | Mapping[str, Any], form: PromptForm, *, max_tokens: int = 32
) -> Answer:
    """Asks for the greedy answer (temperature 0).

    Args:
        endpoint: The endpoint to ask.
        model: Id of the model.
        row: What `split_row` takes; a final assistant message of {"messages"} is not shown to the model.
        form: `prompt_completion`: plain completion; `messages`: chat with the base's template.
        max_tokens: Most tokens of the answer.

    Raises:
        RaytuneError: The endpoint refused or could not be reached.
    """
    asked, _ = split_row(row)
    started = time.perf_counter()
    pieces = list(_pieces(endpoint, model, asked, form, max_tokens, stream=False))
    latency_s = time.perf_counter() - started
    return Answer(pieces[0][0] if pieces else model, "".join(text for _, text in pieces), latency_s)


def stream(
    endpoint: Endpoint, model: str, asked: str | Sequence[Mapping[str, Any]], form: PromptForm, *, max_tokens: int = 128
) -> Iterator[str]:
    """Yields the same greedy answer piece by piece as it is generated."""
    for _, piece in _pieces(endpoint, model, asked, form, max_tokens, stream=True):
        yield piece


def forms(endpoint: Endpoint) -> dict[str, PromptForm | None]:
    """Returns the prompt form that each model id was trained on; None for the base, which answers both forms."""
    import openai

    try:
        listed = list(client(endpoint).models.list())
    except openai.OpenAIError as error:
        raise _failed(endpoint, error) from error
    return {model.id: (getattr(model, "metadata", None) or {}).get("form") for model in listed}


def _pieces(
    endpoint: Endpoint,
    model: str,
    asked: str | Sequence[Mapping[str, Any]],
    form: PromptForm,
    max_tokens: int,
    *,
    stream: bool,
) -> Iterator[tuple[str, str]]:
    import openai

    options: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "temperature": 0.0, "stream": stream}
    try:
        if form == "prompt_completion":
            if not isinstance(asked, str):
                raise InputError(model, "was trained on plain prompts and is asked messages", 'use a row with "prompt"')
            reply: Any = client(endpoint).completions.create(prompt=asked, **options)
        else:
            messages: Any = [{"role": "user", "content": asked}] if isinstance(asked, str) else list(asked)
            reply = client(endpoint).chat.completions.create(messages=messages, **options)
        for chunk in reply if stream else [reply]:
            for choice in chunk.choices:
                yield chunk.model, _text(choice)
    except openai.OpenAIError as error:
        raise _failed(endpoint, error) from error


def _text(choice: Any) -> str:
    if hasattr(choice, "text"):
        return choice.text or ""
    return (choice.delta if hasattr(choice, "delta") else choice.message).content or ""


def _failed(endpoint: Endpoint, error: Exception) -> RaytuneError:
    import openai

    if isinstance(error, openai.APIConnectionError):
        return RaytuneError(
            f"{endpoint.base_url}: no endpoint answers; start one with raytune-ft serve, or check --url"
        )
    return RaytuneError(f"{endpoint.base_url}: {type(error).__name__}: {' '.join(str(error).split())[:500]}")
