"""The formats of a row: `prompt_completion` or `messages`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from raytune_ft.config.data import DataFormat
from raytune_ft.data.bad_rows import BadRow

ROLES = ("system", "user", "assistant", "tool")
# Keys that other data formats train on; ignoring one would train on something else than the author meant.
_MEANINGFUL = {"prompt", "completion", "messages", "conversations", "system", "instruction", "input", "output"}
_MEANINGFUL |= {"response", "chosen", "rejected", "text", "tools", "functions", "images", "chat_template_kwargs"}


@dataclass(frozen=True, slots=True)
class PromptCompletion:
    """A prompt and the text that should follow it."""

    prompt: str
    completion: str
    line: int = field(compare=False)

    def has_answer(self) -> bool:
        return bool(self.completion.strip())

    def as_json(self) -> dict[str, Any]:
        return {"prompt": self.prompt, "completion": self.completion}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation; the assistant's turns are the answers."""

    messages: tuple[Message, ...]
    line: int = field(compare=False)

    def has_answer(self) -> bool:
        answers = [message.content for message in self.messages if message.role == "assistant"]
        return bool(answers) and all(answer.strip() for answer in answers)

    def as_json(self) -> dict[str, Any]:
        return {"messages": [{"role": message.role, "content": message.content} for message in self.messages]}


Row = PromptCompletion | Conversation


def parse_row(value: object, line: int, form: DataFormat) -> Row:
    """Returns the checked row of one parsed line.

    Raises:
        BadRow: A key is missing or of the wrong type, a role is unknown, or a key would be ignored.
    """
    if not isinstance(value, dict):
        raise BadRow(f"is {_kind(value)}, not an object", 'write one {"...": ...} object a line')
    match form:
        case DataFormat.prompt_completion:
            _check_keys(value, ("prompt", "completion"), form)
            return PromptCompletion(_text(value, "prompt"), _text(value, "completion"), line)
        case DataFormat.messages:
            _check_keys(value, ("messages",), form)
            return Conversation(_messages(value["messages"]), line)


def _check_keys(value: dict[str, Any], wanted: tuple[str, ...], form: DataFormat) -> None:
    for key in wanted:
        if key not in value:
            raise _missing(value, key, form)
    for key in value:
        if key in _MEANINGFUL and key not in wanted:
            raise BadRow(f'key "{key}" would be ignored by format {form.value}', "remove it, or change data.format")


def _missing(value: dict[str, Any], key: str, form: DataFormat) -> BadRow:
    other = DataFormat.messages if form is DataFormat.prompt_completion else DataFormat.prompt_completion
    if ("messages" if other is DataFormat.messages else "prompt") in value:
        return BadRow(f'has no "{key}" and looks like format {other.value}', f"set data.format: {other.value}")
    spare = [known for known in value if known not in _MEANINGFUL]
    near = difflib.get_close_matches(key, spare, n=1, cutoff=0.6)
    if near:
        return BadRow(f'has no "{key}"', f'rename "{near[0]}"')
    keys = ", ".join(f'"{known}"' for known in list(value)[:8])
    return BadRow(f'has no "{key}"; its keys are {keys or "none"}', f'format {form.value} needs "{key}"')


def _messages(value: object) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        shown = "an empty list" if isinstance(value, list) else _kind(value)
        raise BadRow(f'"messages" is {shown}', 'write a list of {"role", "content"} objects')
    return tuple(_message(index, message) for index, message in enumerate(value))


def _message(index: int, value: object) -> Message:
    place = f"messages[{index}]"
    if not isinstance(value, dict):
        raise BadRow(f"{place} is {_kind(value)}", 'write a {"role", "content"} object')
    for key in ("role", "content"):
        if key not in value:
            raise BadRow(f'{place} has no "{key}"', "add it")
    for key in value:
        if key not in ("role", "content"):
            raise BadRow(f'{place}: key "{key}" would be ignored', "remove it")
    role = _text(value, "role", place)
    if role not in ROLES:
        near = difflib.get_close_matches(role.lower(), ROLES, n=1, cutoff=0.6)
        remedy = f'did you mean "{near[0]}"?' if near else f"use {', '.join(ROLES[:-1])} or {ROLES[-1]}"
        raise BadRow(f'{place}: role "{role[:40]}" is unknown', remedy)
    return Message(role, _text(value, "content", place))


def _text(value: dict[str, Any], key: str, place: str = "") -> str:
    text = value[key]
    name = f'{place}: "{key}"' if place else f'"{key}"'
    if not isinstance(text, str):
        raise BadRow(f"{name} is {_kind(text)}, not a string", "write it in quotes")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise BadRow(f"{name} holds half a surrogate pair", "write the character itself in UTF-8") from None
    if "\0" in text:
        raise BadRow(f"{name} holds a NUL character", "remove it")
    return text


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names[type(value)]
