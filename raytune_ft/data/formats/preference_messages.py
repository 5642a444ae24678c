"""The format `preference_messages`: {"prompt", "chosen", "rejected"}, each a list of messages, as TRL names its keys.

Without `prompt`, both others are whole conversations, and it is the messages that both begin with:
https://huggingface.co/docs/trl/dataset_formats#preference
"""

from __future__ import annotations

from typing import Any

from raytune_ft.config.data import DataFormat, format_of_keys
from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.formats.fields import check_keys, check_no_other_prompt, kind_of
from raytune_ft.data.formats.turns import read_turns
from raytune_ft.data.rows import Conversation, Message, Preference


def parse(value: dict[str, Any], line: int) -> Preference:
    """Returns the checked row, its prompt taken off both conversations if it is not written out.

    Raises:
        BadRow: A key is missing or would be ignored, a message is wrong, a side is not one message of the assistant,
            or both answers are equal.
    """
    if format_of_keys(value) is DataFormat.preference and isinstance(value.get("chosen"), str):
        other = DataFormat.preference
        what = f'"chosen" is {kind_of(value["chosen"])}, and the row looks like format {other}'
        raise BadRow(what, f"set data.format: {other}")
    check_keys(value, DataFormat.preference_messages, "chosen", "rejected", optional="prompt")
    chosen, rejected = (read_turns(value[key], key) for key in ("chosen", "rejected"))
    if chosen == rejected:
        raise BadRow('"chosen" and "rejected" are equal, so neither is preferred', "drop the row, or mend an answer")
    if isinstance(value.get("prompt"), str):
        what = '"prompt" is a string beside lists of messages'
        raise BadRow(what, 'leave it out if "chosen" and "rejected" hold the question, or write it as messages')
    if "prompt" in value:
        prompt = read_turns(value["prompt"], "prompt")
    else:
        check_no_other_prompt(value)
        prompt = _common(chosen, rejected)
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    _check_answer("chosen", chosen)
    _check_answer("rejected", rejected)
    return Preference(Conversation((*prompt, *chosen), line), Conversation((*prompt, *rejected), line), line)


def _common(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> tuple[Message, ...]:
    alike = [one == other for one, other in zip(chosen, rejected, strict=False)]
    common = chosen[: alike.index(False) if False in alike else len(alike)]
    if not common:
        what = 'has no "prompt", and "chosen" and "rejected" begin with no message in common'
        raise BadRow(what, 'add "prompt", or the question to both')
    return common


def _check_answer(key: str, messages: tuple[Message, ...]) -> None:
    if [message.role for message in messages] == ["assistant"]:
        return
    roles = ", ".join(message.role for message in messages) or "nothing"
    remedy = "end each side with one message of the assistant, and move the others to the prompt"
    raise BadRow(f'"{key}" holds {roles} after the prompt, not one message of the assistant', remedy)
