"""The format `preference`: {"prompt": text, "chosen": text, "rejected": text}, as TRL names its keys.

Without `prompt`, as in Anthropic's HH data, it is what both texts begin with:
https://huggingface.co/docs/trl/dataset_formats#preference
"""

from __future__ import annotations

from typing import Any

from raytune_ft.config.data import DataFormat, format_of_keys
from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.formats.fields import check_keys, check_no_other_prompt, text_of
from raytune_ft.data.rows import Preference, PromptCompletion

_REPEATED = 16
"""Characters of a prompt from which on both answers do not begin with it by chance."""


def parse(value: dict[str, Any], line: int) -> Preference:
    """Returns the checked row, its prompt taken off both texts if it is not written out.

    Raises:
        BadRow: A key is missing, is no string or would be ignored, both answers are equal, or nothing is common.
    """
    if format_of_keys(value) is DataFormat.preference_messages:
        other = DataFormat.preference_messages
        raise BadRow(f"holds lists of messages and looks like format {other}", f"set data.format: {other}")
    check_keys(value, DataFormat.preference, "chosen", "rejected", optional="prompt")
    chosen, rejected = text_of(value, "chosen"), text_of(value, "rejected")
    if chosen == rejected:
        raise BadRow('"chosen" and "rejected" are equal, so neither is preferred', "drop the row, or mend an answer")
    if "prompt" in value:
        prompt = text_of(value, "prompt")
        if len(prompt) >= _REPEATED and chosen.startswith(prompt) and rejected.startswith(prompt):
            what = '"chosen" and "rejected" begin with the prompt again'
            raise BadRow(what, 'leave "prompt" out, or take it off both')
    else:
        check_no_other_prompt(value)
        prompt = _common(chosen, rejected)
        chosen, rejected = chosen.removeprefix(prompt), rejected.removeprefix(prompt)
    return Preference(PromptCompletion(prompt, chosen, line), PromptCompletion(prompt, rejected, line), line)


def _common(chosen: str, rejected: str) -> str:
    """Returns the longest beginning of both texts that splits no word, and leaves the answers their leading space.

    A line break stays with the prompt.
    """
    pairs = zip(chosen, rejected, strict=False)
    end = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(chosen), len(rejected)))
    while end and not chosen[end - 1].isspace():
        end -= 1
    prompt = chosen[:end].removesuffix(" ")
    if not prompt.strip():
        raise BadRow('has no "prompt", and "chosen" and "rejected" begin with no words in common', 'add "prompt"')
    for key, text in (("chosen", chosen), ("rejected", rejected)):
        if not text[len(prompt) :].strip():
            raise BadRow(f'has no "prompt", and all of "{key}" stands in the other answer too', 'add "prompt"')
    return prompt
