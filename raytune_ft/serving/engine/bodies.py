"""What routing, the engine and the log need from the parsed body of a completion or chat request."""

from __future__ import annotations

from typing import Any, TypeVar

_Body = TypeVar("_Body", bound=Any)


def user_of(body: Any) -> str | None:
    """Returns the end user that OpenAI's clients name in `user` or `safety_identifier`."""
    told = body.user or (body.model_extra or {}).get("safety_identifier")
    return told if isinstance(told, str) and told else None


def shows_usage(body: Any) -> bool:
    """Tells whether the client wants its stream to end with the token usage."""
    return bool(body.stream and body.stream_options and body.stream_options.include_usage)


def words_of(body: Any) -> Any:
    """Returns the messages of a chat, or the prompt of a completion."""
    return body.messages if hasattr(body, "messages") else body.prompt


def for_engine(body: _Body, model: str, request: str, with_usage: Any) -> _Body:
    """Returns a copy of the body for the engine: it names one version, and a stream always reports its token usage.

    Args:
        body: The body as the client sent it.
        model: Concrete model id, with its version.
        request: Id of the request; with "" the engine chooses one.
        with_usage: The stream options to set where the client did not ask for the usage; the records need it.
    """
    update: dict[str, Any] = {"model": model, "stream_options": None}
    if request:
        update["request_id"] = request
    if body.stream:
        update["stream_options"] = body.stream_options if shows_usage(body) else with_usage
    copied: _Body = body.model_copy(update=update)
    return copied
