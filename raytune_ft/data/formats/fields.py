"""Checks of a row's keys and texts that all formats share."""

from __future__ import annotations

import difflib
from typing import Any

from raytune_ft.config.data import DataFormat, format_of_keys
from raytune_ft.data.bad_rows import BadRow

# Keys that other data formats train on; ignoring one would train on something else than the author meant.
_MEANINGFUL = {"prompt", "completion", "messages", "conversations", "system", "instruction", "input", "output"}
_MEANINGFUL |= {"response", "chosen", "rejected", "text", "tools", "functions", "images", "chat_template_kwargs"}

_PROMPTS = {"question", "query", "context", "user", "instructions", "prompts"}


def check_keys(value: dict[str, Any], form: DataFormat, *needed: str, optional: str | None = None) -> None:
    """Raises BadRow if a needed key is missing, or a key that means something would be ignored."""
    for key in needed:
        if key not in value:
            raise _missing(value, key, form)
    for key in value:
        if key in _MEANINGFUL and key not in needed and key != optional:
            raise BadRow(f'key "{key}" would be ignored by format {form.value}', "remove it, or change data.format")


def check_no_other_prompt(value: dict[str, Any]) -> None:
    """Raises BadRow if a key looks like the prompt by another name, which would be ignored."""
    spare = [key for key in value if key not in _MEANINGFUL]
    near = [key for key in spare if key.lower() in _PROMPTS]
    if found := near or difflib.get_close_matches("prompt", spare, n=1, cutoff=0.7):
        remedy = f'rename "{found[0]}" to "prompt", or remove it'
        raise BadRow(f'has no "prompt", and "{found[0]}" would be ignored', remedy)


def text_of(value: dict[str, Any], key: str, place: str = "") -> str:
    """Returns the string of a key; raises BadRow if it isn't one, or holds what no tokenizer takes.

    Args:
        value: An object that has the key.
        key: The key.
        place: Where in the row the object stands, such as `messages[0]`; empty for the row itself.
    """
    text = value[key]
    name = f'{place}: "{key}"' if place else f'"{key}"'
    if not isinstance(text, str):
        raise BadRow(f"{name} is {kind_of(text)}, not a string", "write it in quotes")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise BadRow(f"{name} holds half a surrogate pair", "write the character itself in UTF-8") from None
    if "\0" in text:
        raise BadRow(f"{name} holds a NUL character", "remove it")
    return text


def kind_of(value: object) -> str:
    """Returns JSON's word for the type of a parsed value, with its article."""
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names[type(value)]


def _missing(value: dict[str, Any], key: str, form: DataFormat) -> BadRow:
    other = format_of_keys(value)
    if other is not None and other is not form:
        remedy = f"set data.format: {other}"
        if other.rows != form.rows:
            remedy += ", and an objective that takes such rows"
        return BadRow(f'has no "{key}" and looks like format {other}', remedy)
    spare = [known for known in value if known not in _MEANINGFUL]
    near = difflib.get_close_matches(key, spare, n=1, cutoff=0.6)
    if near:
        return BadRow(f'has no "{key}"', f'rename "{near[0]}"')
    keys = ", ".join(f'"{known}"' for known in list(value)[:8])
    return BadRow(f'has no "{key}"; its keys are {keys or "none"}', f'format {form.value} needs "{key}"')
