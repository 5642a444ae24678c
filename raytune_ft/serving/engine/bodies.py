"""The parsed body of a completion or a chat, as routing, the engine and the log need it."""

from __future__ import annotations

from typing import Any, TypeVar

_Body = TypeVar("_Body", bound=Any)


def user_of(body: Any) -> str | None:
    """Who asks, as OpenAI's clients tell it: `user`, or `safety_identifier`."""
    told = body.user or (body.model_extra or {}).get("safety_identifier")
    return told if isinstance(told, str) and told else None


def shows_usage(body: Any) -> bool:
    """Whether the client wants its stream to end with the usage."""
    return bool(body.stream and body.stream_options and body.stream_options.include_usage)


def words_of(body: Any) -> Any:
    """What is asked: the messages, or the prompt."""
    return body.messages if hasattr(body, "messages") else body.prompt


def for_engine(body: _Body, model: str, request: str, with_usage: Any) -> _Body:
    """The body as the engine gets it: for one version, under our id, and with the usage of streams.

    Args:
        body: As the client sent it.
        model: Concrete id.
        request: Id of the request; "" leaves the engine to choose.
        with_usage: The stream options for a client that didn't ask for the usage, which the records need.
    """
    update: dict[str, Any] = {"model": model, "stream_options": None}
    if request:
        update["request_id"] = request
    if body.stream:
        update["stream_options"] = body.stream_options if shows_usage(body) else with_usage
    copied: _Body = body.model_copy(update=update)
    return copied
