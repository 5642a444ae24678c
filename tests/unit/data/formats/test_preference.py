"""Where the prompt of a preference ends if it is not written out."""

from __future__ import annotations

import pytest

from raytune_ft.config.data import DataFormat
from raytune_ft.data.formats.choose import parse_row
from raytune_ft.data.rows import Conversation, Message, Preference, PromptCompletion

HH = "\n\nHuman: Is it good?\n\nAssistant:"
SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it?"}
YES, NO = ({"role": "assistant", "content": text} for text in ("yes", "no"))


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        (f"{HH} I think so.", f"{HH} No.", HH),
        (f"{HH} yesterday", f"{HH} yes", HH),
        (f"{HH} It is good.", f"{HH} It is bad.", f"{HH} It is"),
        ("### Answer:\nyes", "### Answer:\nno", "### Answer:\n"),
        ("Say it: yes", "Say it: yes and no", "Say it:"),
        ("Say it:  yes", "Say it:  no", "Say it: "),
    ],
)
def test_the_prompt_is_what_both_texts_begin_with_up_to_a_whole_word(chosen: str, rejected: str, prompt: str) -> None:
    row = parse_row({"chosen": chosen, "rejected": rejected}, 1, DataFormat.preference)
    parts = (chosen.removeprefix(prompt), rejected.removeprefix(prompt))
    assert row == Preference(*(PromptCompletion(prompt, part, 1) for part in parts), line=1)
    assert row.as_json() == {"prompt": prompt, "chosen": parts[0], "rejected": parts[1]}


def test_a_written_prompt_is_taken_as_it_is() -> None:
    value = {"prompt": "a", "chosen": " b c", "rejected": " b d"}
    row = parse_row(value, 1, DataFormat.preference)
    assert (row.question, row.answer, row.as_json()) == ("a", " b c", value)


def test_the_prompt_of_whole_conversations_is_the_messages_that_both_begin_with() -> None:
    earlier = [SYSTEM, USER, YES, USER]
    row = parse_row({"chosen": [*earlier, YES], "rejected": [*earlier, NO]}, 1, DataFormat.preference_messages)
    assert row == parse_row({"prompt": earlier, "chosen": [YES], "rejected": [NO]}, 2, DataFormat.preference_messages)
    assert isinstance(row, Preference) and isinstance(row.rejected, Conversation)
    assert row.rejected.messages[-1] == Message("assistant", "no")
    assert (row.question, row.answer) == (earlier, "yes")


def test_both_answers_have_to_say_something() -> None:
    for chosen, rejected, expected in ((" a", " b", True), (" ", " b", False), (" a", "", False)):
        row = parse_row({"prompt": "q", "chosen": chosen, "rejected": rejected}, 1, DataFormat.preference)
        assert row.has_answer() is expected


def test_the_same_answers_the_other_way_round_are_another_row() -> None:
    rows = [
        parse_row({"prompt": "q", "chosen": one, "rejected": other}, 1, DataFormat.preference)
        for one, other in (("a", "b"), ("b", "a"))
    ]
    assert rows[0] != rows[1]
