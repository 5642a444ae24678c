"""The one rule for names that become a path, a study or a model id."""

from __future__ import annotations

import re

from raytune_ft.errors import InputError

NAME_PATTERN = r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$"
_RULE = "use 1-64 of a-z, 0-9, '-', '_' and '.', starting and ending with a letter or digit, without '..'"


def is_name(value: str) -> bool:
    """Whether `value` is plain ASCII and can't climb out of a directory or be mistaken for another name."""
    return re.fullmatch(NAME_PATTERN, value) is not None and ".." not in value


def check_name(where: str, value: str) -> str:
    """Returns `value`, or raises an InputError that names the place and the rule."""
    if not is_name(value):
        shown = ascii(value if len(value) <= 80 else value[:77] + "...")
        raise InputError(where, f"{shown} is not a valid name", _RULE)
    return value
