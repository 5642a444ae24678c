"""The format `messages`: {"messages": [{"role", "content"}, ...]}, in which the assistant's turns are the answers."""

from __future__ import annotations

from typing import Any

from raytune_ft.config.data import DataFormat
from raytune_ft.data.formats.fields import check_keys
from raytune_ft.data.formats.turns import read_turns
from raytune_ft.data.rows import Conversation


def parse(value: dict[str, Any], line: int) -> Conversation:
    """Returns the checked row; raises BadRow if a message is wrong, or a key would be ignored."""
    check_keys(value, DataFormat.messages, "messages")
    return Conversation(read_turns(value["messages"], "messages"), line)
