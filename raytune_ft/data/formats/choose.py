"""Hands a parsed line to the format that `data.format` names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raytune_ft.config.data import DataFormat
from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.formats import messages, preference, preference_messages, prompt_completion
from raytune_ft.data.formats.fields import kind_of
from raytune_ft.data.rows import Row

PARSERS: dict[DataFormat, Callable[[dict[str, Any], int], Row]] = {
    DataFormat.prompt_completion: prompt_completion.parse,
    DataFormat.messages: messages.parse,
    DataFormat.preference: preference.parse,
    DataFormat.preference_messages: preference_messages.parse,
}


def parse_row(value: object, line: int, form: DataFormat) -> Row:
    """Returns the checked row of one parsed line.

    Raises:
        BadRow: A key is missing or of the wrong type, a role is unknown, or a key would be ignored.
    """
    if not isinstance(value, dict):
        raise BadRow(f"is {kind_of(value)}, not an object", 'write one {"...": ...} object a line')
    return PARSERS[form](value, line)
