"""What a row may be."""

from __future__ import annotations

import re
from typing import Any

import pytest

from raytune_ft.config.data import DataFormat
from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.rows import Conversation, Message, PromptCompletion, parse_row

USER = {"role": "user", "content": "hi"}
PAIR, CHAT = DataFormat.prompt_completion, DataFormat.messages


def test_a_prompt_and_its_completion_are_taken_as_they_are() -> None:
    row = parse_row({"prompt": " a ", "completion": " b\n", "id": 7}, 3, PAIR)
    assert row == PromptCompletion(" a ", " b\n", 3)
    assert row.as_json() == {"prompt": " a ", "completion": " b\n"}


def test_a_conversation_keeps_its_turns() -> None:
    value = {"messages": [USER, {"role": "assistant", "content": "hello"}], "source": "me"}
    row = parse_row(value, 1, CHAT)
    assert row == Conversation((Message("user", "hi"), Message("assistant", "hello")), 1)
    assert row.as_json() == {"messages": value["messages"]}


@pytest.mark.parametrize(
    ("form", "value", "what", "remedy"),
    [
        (PAIR, {"prompt": "a"}, 'has no "completion"', 'needs "completion"'),
        (PAIR, {"prompt": "a", "completoin": "b"}, 'has no "completion"', 'rename "completoin"'),
        (PAIR, {"messages": [USER]}, "looks like format messages", "set data.format: messages"),
        (CHAT, {"prompt": "a", "completion": "b"}, "looks like format prompt_completion", "set data.format"),
        (PAIR, {"prompt": "a", "completion": 3}, '"completion" is a number, not a string', "quotes"),
        (PAIR, {"prompt": None, "completion": "b"}, '"prompt" is null, not a string', "quotes"),
        (PAIR, {"prompt": "a", "completion": "b", "system": "c"}, 'key "system" would be ignored', "remove it"),
        (CHAT, {"messages": [USER], "tools": []}, 'key "tools" would be ignored', "remove it"),
        (CHAT, {"messages": []}, '"messages" is an empty list', "list of"),
        (CHAT, {"messages": "hi"}, '"messages" is a string', "list of"),
        (CHAT, {"messages": [USER, "hi"]}, "messages[1] is a string", "object"),
        (CHAT, {"messages": [{"role": "user"}]}, 'messages[0] has no "content"', "add it"),
        (CHAT, {"messages": [{**USER, "weight": 0}]}, 'messages[0]: key "weight" would be ignored', "remove it"),
        (CHAT, {"messages": [{**USER, "role": "assitant"}]}, '"assitant" is unknown', 'did you mean "assistant"?'),
        (CHAT, {"messages": [{**USER, "role": "gpt"}]}, '"gpt" is unknown', "use system, user, assistant or tool"),
        (CHAT, {"messages": [{**USER, "content": None}]}, 'messages[0]: "content" is null', "quotes"),
    ],
)
def test_a_row_of_another_shape_is_refused_with_a_remedy(form: DataFormat, value: Any, what: str, remedy: str) -> None:
    with pytest.raises(BadRow, match=re.escape(what)) as caught:
        parse_row(value, 1, form)
    assert remedy in caught.value.remedy


def test_rows_are_the_same_wherever_they_stand() -> None:
    assert PromptCompletion("a", "b", 1) == PromptCompletion("a", "b", 2)
    assert len({PromptCompletion("a", "b", 1), PromptCompletion("a", "b", 2)}) == 1


@pytest.mark.parametrize(
    ("answers", "expected"), [([], False), (["yes"], True), (["yes", " \n"], False), (["yes", "no"], True)]
)
def test_a_conversation_has_an_answer_when_all_of_the_assistants_turns_say_something(
    answers: list[str], expected: bool
) -> None:
    turns = [Message("user", "?")] + [Message("assistant", answer) for answer in answers]
    assert Conversation(tuple(turns), 1).has_answer() is expected
