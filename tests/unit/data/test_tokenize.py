"""Tokens, labels and truncation."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from raytune_ft.data.bad_rows import BadRow, BadRows
from raytune_ft.data.rows import Conversation, Message, PromptCompletion
from raytune_ft.data.tokens.template import ChatTemplate
from raytune_ft.data.tokens.tokenize import IGNORED, RowTokeniser, TokenisedRow, fit
from raytune_ft.data.tokens.tokenizer import load_tokenizer

MARKED = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>\n{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HIDES_EARLIER_ANSWERS = (
    "{% for message in messages %}{{ message['role'] }}: "
    "{% if loop.last or message['role'] != 'assistant' %}{{ message['content'] }}{% else %}...{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
CONVERSATION = Conversation(
    (
        Message("system", "be good"),
        Message("user", "question"),
        Message("assistant", "answer"),
        Message("user", "user"),
        Message("assistant", "bad answer"),
        Message("user", "thanks"),
    ),
    line=4,
)


@pytest.fixture(scope="module")
def tokenizer(base_model: Path):
    return load_tokenizer(str(base_model))


def tokenise(tokeniser: RowTokeniser, row: PromptCompletion | Conversation) -> TokenisedRow | None:
    bad_rows = BadRows(Path("train.jsonl"))
    [(_, tokens)] = tokeniser.rows([row], bad_rows)
    assert not bad_rows.count
    return tokens


def learned(tokens: TokenisedRow) -> list[int]:
    return [label for label in tokens.labels if label != IGNORED]


def test_a_served_prompt_has_the_tokens_that_were_trained(tokenizer) -> None:
    row = PromptCompletion("Good\n", "\n bad answer", 1)  # tokenised as one text, the two line ends might be one token
    tokens = tokenise(RowTokeniser(tokenizer, None, 64, loss_on_all=False), row)
    served = tokenizer(row.prompt)["input_ids"]
    assert tokens.input_ids[: len(served)] == served
    answer = tokenizer(row.completion, add_special_tokens=False)["input_ids"]
    assert learned(tokens) == [*answer, tokenizer.eos_token_id]
    assert tokens.labels == [IGNORED] * len(served) + learned(tokens)


def test_loss_on_all_learns_the_prompt_too(tokenizer) -> None:
    tokens = tokenise(RowTokeniser(tokenizer, None, 64, loss_on_all=True), PromptCompletion("question", " answer", 1))
    assert tokens.labels == tokens.input_ids


def test_truncation_keeps_the_answer_whole_and_the_end_of_the_prompt() -> None:
    for seed in range(2000):
        _check_truncation(random.Random(seed))


def _check_truncation(draw: random.Random) -> None:
    prompt, answer = draw.randint(0, 12), draw.randint(1, 12)
    start_token = draw.choice([None, 0])
    limit = draw.randint(2, 20)
    ids = list(range(prompt + answer))
    row = fit(ids, [(prompt, prompt + answer)], limit, start_token, loss_on_all=False)
    head = 1 if start_token == 0 else 0
    fits = len(ids) <= limit
    if not fits and answer + head + 1 > limit:
        assert row is None
        return
    if row is None:  # the only token with a loss is the first one, which is predicted from nothing
        assert prompt == 0 and answer == 1
        return
    assert len(row.input_ids) == len(row.labels) == min(len(ids), limit)
    assert row.cut is not fits
    assert learned(row) == ids[prompt:]
    assert row.input_ids[-answer:] == ids[prompt:]
    kept = row.input_ids[head:] if row.cut else row.input_ids
    assert kept == ids[len(ids) - len(kept) :]
    if head:
        assert row.input_ids[0] == 0


def test_an_earlier_answer_that_is_cut_into_carries_no_loss() -> None:
    row = fit(list(range(10)), [(2, 5), (7, 10)], 7, None, loss_on_all=False)
    assert row.input_ids == [3, 4, 5, 6, 7, 8, 9]
    assert row.labels == [IGNORED] * 4 + [7, 8, 9]


def test_what_follows_the_last_answer_is_left_out_unless_it_is_learned() -> None:
    ids = list(range(10))
    assert fit(ids, [(2, 5)], 100, None, loss_on_all=False).input_ids == ids[:5]
    assert fit(ids, [(2, 5)], 100, None, loss_on_all=True).input_ids == ids


@pytest.mark.parametrize("template", [None, MARKED], ids=["by prefixes", "by generation markers"])
def test_only_the_assistants_turns_are_learned_with_their_end_tokens(base_model: Path, template: str | None) -> None:
    tokenizer = load_tokenizer(str(base_model))
    tokenizer.chat_template = template or tokenizer.chat_template
    tokens = tokenise(RowTokeniser(tokenizer, ChatTemplate(tokenizer), 500, loss_on_all=False), CONVERSATION)
    assert tokenizer.decode(learned(tokens)) == "answer<|im_end|>bad answer<|im_end|>"
    assert tokenizer.decode(tokens.input_ids).endswith("bad answer<|im_end|>")


def test_the_first_question_has_the_tokens_that_the_chat_endpoint_gives_it(tokenizer) -> None:
    ids, answers = ChatTemplate(tokenizer).tokenise(CONVERSATION)
    turns = [{"role": turn.role, "content": turn.content} for turn in CONVERSATION.messages[:2]]
    served = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids[: answers[0][0]] == served


def test_a_long_conversation_loses_its_beginning_and_keeps_its_last_answer(tokenizer) -> None:
    turns = [Message("user", "question " * 40), Message("assistant", "answer")] * 3
    row = Conversation(tuple(turns), 1)
    tokens = tokenise(RowTokeniser(tokenizer, ChatTemplate(tokenizer), 30, loss_on_all=False), row)
    assert tokens.cut and len(tokens.input_ids) == 30
    assert tokenizer.decode(learned(tokens)) == "answer<|im_end|>"


def test_a_template_that_hides_where_an_answer_starts_is_refused(base_model: Path) -> None:
    tokenizer = load_tokenizer(str(base_model))
    tokenizer.chat_template = HIDES_EARLIER_ANSWERS
    with pytest.raises(BadRow, match=r"renders messages\[2\] differently"):
        ChatTemplate(tokenizer).tokenise(CONVERSATION)


def test_what_the_template_refuses_is_counted_as_a_bad_line(base_model: Path) -> None:
    tokenizer = load_tokenizer(str(base_model))
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    bad_rows = BadRows(Path("train.jsonl"))
    tokeniser = RowTokeniser(tokenizer, ChatTemplate(tokenizer), 64, loss_on_all=False)
    assert list(tokeniser.rows([CONVERSATION], bad_rows)) == []
    assert [str(error) for error in bad_rows.lines()] == [
        "train.jsonl:4: the chat template refuses it: roles must alternate; check the order of the roles"
    ]


def test_a_conversation_that_starts_with_the_assistant_is_refused(tokenizer) -> None:
    row = Conversation((Message("assistant", "hello"), Message("user", "hi"), Message("assistant", "bye")), 1)
    with pytest.raises(BadRow, match="starts with the assistant"):
        ChatTemplate(tokenizer).tokenise(row)
