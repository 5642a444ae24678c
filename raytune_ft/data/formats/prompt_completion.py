"""The format `prompt_completion`: {"prompt": text, "completion": text}."""

from __future__ import annotations

from typing import Any

from raytune_ft.config.data import DataFormat
from raytune_ft.data.formats.fields import check_keys, text_of
from raytune_ft.data.rows import PromptCompletion


def parse(value: dict[str, Any], line: int) -> PromptCompletion:
    """Returns the checked row; raises BadRow if a key is missing, is no string, or would be ignored."""
    check_keys(value, DataFormat.prompt_completion, "prompt", "completion")
    return PromptCompletion(text_of(value, "prompt"), text_of(value, "completion"), line)
