"""Reads a list of messages, each {"role", "content"}."""

from __future__ import annotations

import difflib

from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.formats.fields import kind_of, text_of
from raytune_ft.data.rows import Message

ROLES = ("system", "user", "assistant", "tool")


def read_turns(value: object, key: str) -> tuple[Message, ...]:
    """Returns the messages that stand under `key`.

    Raises:
        BadRow: It is no list, an empty one, or one of its messages is wrong.
    """
    if not isinstance(value, list) or not value:
        shown = "an empty list" if isinstance(value, list) else kind_of(value)
        raise BadRow(f'"{key}" is {shown}', 'write a list of {"role", "content"} objects')
    return tuple(_message(f"{key}[{index}]", message) for index, message in enumerate(value))


def _message(place: str, value: object) -> Message:
    if not isinstance(value, dict):
        raise BadRow(f"{place} is {kind_of(value)}", 'write a {"role", "content"} object')
    for key in ("role", "content"):
        if key not in value:
            raise BadRow(f'{place} has no "{key}"', "add it")
    for key in value:
        if key not in ("role", "content"):
            raise BadRow(f'{place}: key "{key}" would be ignored', "remove it")
    role = text_of(value, "role", place)
    if role not in ROLES:
        near = difflib.get_close_matches(role.lower(), ROLES, n=1, cutoff=0.6)
        remedy = f'did you mean "{near[0]}"?' if near else f"use {', '.join(ROLES[:-1])} or {ROLES[-1]}"
        raise BadRow(f'{place}: role "{role[:40]}" is unknown', remedy)
    return Message(role, text_of(value, "content", place))
