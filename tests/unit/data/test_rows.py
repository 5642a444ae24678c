"""What a row says of itself."""

from __future__ import annotations

import pytest

from raytune_ft.data.rows import Conversation, Message, PromptCompletion


@pytest.mark.parametrize(
    ("answers", "expected"), [([], False), (["yes"], True), (["yes", " \n"], False), (["yes", "no"], True)]
)
def test_a_conversation_has_an_answer_when_all_of_the_assistants_turns_say_something(
    answers: list[str], expected: bool
) -> None:
    turns = [Message("user", "?")] + [Message("assistant", answer) for answer in answers]
    assert Conversation(tuple(turns), 1).has_answer() is expected


def test_a_pair_asks_its_prompt() -> None:
    row = PromptCompletion("a", " b", 1)
    assert (row.question, row.answer, row.texts()) == ("a", " b", ("a", " b", 0))


@pytest.mark.parametrize("after", [(), (Message("user", "thanks"),)])
def test_a_conversation_asks_what_stands_before_its_last_answer(after: tuple[Message, ...]) -> None:
    turns = (Message("user", "q"), Message("assistant", "a"), Message("user", "r"), Message("assistant", "b"))
    row = Conversation((*turns, *after), 1)
    assert row.question == [turn.as_json() for turn in turns[:3]]
    assert row.answer == "b"
    assert row.texts() == ("\n".join(["q", "r", *(turn.content for turn in after)]), "a\nb", 4 + len(after))


def test_a_conversation_without_an_answer_asks_everything() -> None:
    row = Conversation((Message("user", "q"),), 1)
    assert (row.question, row.answer) == ([{"role": "user", "content": "q"}], "")
