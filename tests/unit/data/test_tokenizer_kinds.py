"""Each kind of tokenizer trains on the tokens that are served: prompts, completions, and conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raytune_ft.data.bad_rows import BadRow, BadRows
from raytune_ft.data.rows import Conversation, Message, PromptCompletion
from raytune_ft.data.tokens.template import ChatTemplate
from raytune_ft.data.tokens.tokenize import IGNORED, RowTokeniser, TokenisedRow

PROMPT, ANSWER = "Review: the film was good\nSentiment:", " positive"
TURNS = [
    {"role": "user", "content": "question"},
    {"role": "assistant", "content": "bad answer"},
    {"role": "user", "content": "and the film"},
    {"role": "assistant", "content": "good and positive"},
]


def conversation(turns: list[dict[str, str]], line: int = 1) -> Conversation:
    return Conversation(tuple(Message(turn["role"], turn["content"]) for turn in turns), line)


def tokenise(tokenizer: Any, row: PromptCompletion | Conversation, *, loss_on_all: bool = False) -> TokenisedRow:
    bad_rows = BadRows(Path("train.jsonl"))
    template = ChatTemplate(tokenizer) if isinstance(row, Conversation) else None
    [(_, tokens)] = RowTokeniser(tokenizer, template, 500, loss_on_all).rows([row], bad_rows)
    assert not bad_rows.count and tokens is not None
    return tokens


def learned(tokens: TokenisedRow) -> list[int]:
    return [label for label in tokens.labels if label != IGNORED]


def test_a_row_has_the_tokens_of_its_whole_text(tokenizer_of_a_kind: Any) -> None:
    tokenizer = tokenizer_of_a_kind
    tokens = tokenise(tokenizer, PromptCompletion(PROMPT, ANSWER, 1))
    prompt = tokenizer(PROMPT)["input_ids"]
    assert tokens.input_ids[: len(prompt)] == prompt
    inner = [ids[: -1 if ids[-1] == tokenizer.eos_token_id else None] for ids in (prompt, whole(tokenizer))]
    assert learned(tokens) == [*inner[1][len(inner[0]) :], tokenizer.eos_token_id]
    assert tokenizer.decode(learned(tokens)[:-1]).strip() == "positive"


def whole(tokenizer: Any) -> list[int]:
    ids: list[int] = tokenizer(PROMPT + ANSWER)["input_ids"]
    return ids


def test_a_prompt_that_ends_within_a_token_stays_as_it_is_served(tokenizer_of_a_kind: Any) -> None:
    """`Sentiment: positive` has one token for ` positive`, `Sentiment: ` is served with one for the space."""
    tokenizer = tokenizer_of_a_kind
    for prompt, answer in (("Sentiment: ", "positive"), ("Sentiment:", "possible"), ("po", "st"), ("a\n", "\n bad")):
        tokens = tokenise(tokenizer, PromptCompletion(prompt, answer, 1))
        served = tokenizer(prompt)["input_ids"]
        assert tokens.input_ids[: len(served)] == served
        pieces = tokenizer.convert_ids_to_tokens(learned(tokens)[:-1])
        assert pieces[0].replace("##", "")[:1] == answer.strip()[:1] or answer.startswith("\n")
        assert tokenizer.decode(learned(tokens)[:-1]).replace("##", "").strip() == answer.strip()


def test_a_chat_has_the_tokens_that_the_endpoint_gives_it(tokenizer_of_a_kind: Any) -> None:
    tokenizer = tokenizer_of_a_kind
    tokens = tokenise(tokenizer, conversation(TURNS))
    rendered = tokenizer.apply_chat_template(TURNS, return_dict=True)["input_ids"]
    assert tokens.input_ids == rendered[: len(tokens.input_ids)]
    served = tokenizer.apply_chat_template(TURNS[:3], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert tokens.input_ids[: len(served)] == served and tokens.labels[len(served) - 1] == IGNORED
    end = tokenizer.eos_token
    said = [part.strip() for part in tokenizer.decode(learned(tokens)).split(end)]
    assert said == ["bad answer", "good and positive", ""]


def test_what_follows_the_last_answer_is_learned_with_the_rest(tokenizer_of_a_kind: Any) -> None:
    tokenizer = tokenizer_of_a_kind
    turns = [*TURNS, {"role": "user", "content": "thanks"}]
    tokens = tokenise(tokenizer, conversation(turns), loss_on_all=True)
    assert tokens.input_ids == tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]


@pytest.mark.parametrize("kind", ["llama_2_tokenizer", "byte_level_tokenizer"])
def test_a_token_over_an_earlier_answers_border_carries_no_loss(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """` bad` is one token, whose space is the question's; before the last answer the space stands as it is served."""
    template = (
        "{% for message in messages %}{% if message['role'] == 'user' %}U: {{ message['content'] }} A: "
        "{% else %}{{ message['content'] }}\n{% endif %}{% endfor %}"
    )
    tokenizer = request.getfixturevalue(kind)
    monkeypatch.setattr(tokenizer, "chat_template", template)
    tokens = tokenise(tokenizer, conversation(TURNS))
    assert tokenizer.decode(learned(tokens)).lstrip() == "answer\ngood and positive\n"
    served = tokenizer.apply_chat_template(TURNS[:3], return_dict=True)["input_ids"]
    assert tokens.input_ids[: len(served)] == served and tokens.labels[len(served) :] == tokens.input_ids[len(served) :]


def test_generation_markers_count_characters_too(llama_2_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = llama_2_tokenizer.chat_template.replace("{% else %}", "{% else %}{% generation %}")
    marked = marked.replace("{% endif %}{% endfor %}", "{% endgeneration %}{% endif %}{% endfor %}")
    by_prefixes = tokenise(llama_2_tokenizer, conversation(TURNS))
    monkeypatch.setattr(llama_2_tokenizer, "chat_template", marked)
    assert tokenise(llama_2_tokenizer, conversation(TURNS)) == by_prefixes


def test_byte_level_rows_have_the_tokens_of_prompt_and_answer_apart(byte_level_tokenizer: Any) -> None:
    """Answers that begin with a space: encoded at once or apart is the same."""
    tokenizer = byte_level_tokenizer
    for prompt in (PROMPT, "question", "Sentiment: good,", "café ☃:"):
        for answer in (" positive", " bad answer", " nég☃ative", " 12 films"):
            tokens = tokenise(tokenizer, PromptCompletion(prompt, answer, 1))
            apart = [tokenizer(text)["input_ids"] for text in (prompt, answer)]
            assert tokens.input_ids == [*apart[0], *apart[1], tokenizer.eos_token_id]


def test_without_offsets_borders_between_tokens_are_found(slow_tokenizer: Any) -> None:
    tokens = tokenise(slow_tokenizer, conversation(TURNS))
    pieces = slow_tokenizer.convert_ids_to_tokens(learned(tokens))
    assert "".join(pieces) == " bad answer </s> good and positive </s>"
    pair = tokenise(slow_tokenizer, PromptCompletion("ab", "c", 1))
    assert slow_tokenizer.convert_ids_to_tokens(pair.input_ids) == ["a", "b", "c", "</s>"]


def test_without_offsets_a_border_within_a_token_is_refused(
    slow_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    monkeypatch.setattr(slow_tokenizer, "chat_template", template)
    turns = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, "abcd", strict=True)]
    with pytest.raises(BadRow, match="tells no offsets, and a border of an earlier answer lies within a token"):
        ChatTemplate(slow_tokenizer).tokenise(conversation(turns))
