"""Rows that both engines are asked, and what transformers makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.data import DataFormat
from raytune_ft.data.formats.choose import parse_row
from raytune_ft.data.rows import Row
from raytune_ft.data.tokens.tokenizer import load_tokenizer
from raytune_ft.objectives import sft
from raytune_ft.promotion.asked import Answers, Asked, _places, choose_rows
from raytune_ft.promotion.reference import answers

IGNORED = -100


@pytest.fixture
def tokenizer(tiny_llama: Path) -> Any:
    return load_tokenizer(str(tiny_llama))


def read(values: list[dict[str, Any]]) -> list[Row]:
    form = DataFormat.messages if "messages" in values[0] else DataFormat.prompt_completion
    return [parse_row(value, number, form) for number, value in enumerate(values, start=1)]


def tokenised(tokenizer: Any, prompt: str, completion: str) -> dict[str, list[int]]:
    before = tokenizer(prompt)["input_ids"]
    after = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return {"input_ids": before + after, "labels": [IGNORED] * len(before) + after}


def test_rows_are_spread_over_the_split_and_asked_as_a_client_asks(tokenizer: Any) -> None:
    raw = [{"prompt": f"Note\u2028{number}:", "completion": " yes"} for number in range(10)]
    rows = [tokenised(tokenizer, row["prompt"], row["completion"]) for row in raw]
    chosen = choose_rows(Answers(sft.answered, rows), read(raw), tokenizer, 4)
    assert [each.asked for each in chosen] == [raw[at]["prompt"] for at in (0, 2, 5, 7)]
    assert chosen[0].prompt + chosen[0].answer == rows[0]["input_ids"]
    assert chosen[0].answer[-1] == tokenizer.eos_token_id
    assert chosen[0].length == len(rows[0]["input_ids"])
    assert chosen[0].places[0] == 1 and chosen[0].places[-1] < len(chosen[0].prompt)
    assert len(choose_rows(Answers(sft.answered, rows), read(raw), tokenizer, 99)) == 10


@pytest.mark.parametrize(
    ("shared", "length", "first", "count"),
    [
        (0, 1, None, 0), (0, 2, 1, 1), (0, 5, 1, 4), (0, 60, 1, 4), (0, 500, 372, 4),
        (7, 60, 8, 4), (58, 60, 59, 1), (60, 60, None, 0), (300, 500, 372, 4),
    ],
)  # fmt: skip
def test_tokens_of_the_question_count_too(shared: int, length: int, first: int | None, count: int) -> None:
    places = _places(shared, length)
    assert len(places) == len(set(places)) == count and all(0 < place < length for place in places)
    assert (places[0] if places else None) == first


def test_what_rows_of_one_template_share_is_asked_once(tokenizer: Any) -> None:
    raw = [
        {"prompt": f"Note: the harbour is {weather}.\nSwim:", "completion": " yes"}
        for weather in ("sunny", "foggy", "empty", "foggy")
    ]
    rows = [tokenised(tokenizer, row["prompt"], row["completion"]) for row in raw]
    chosen = choose_rows(Answers(sft.answered, rows), read(raw), tokenizer, 4)
    asked = [tuple(row.prompt[:place]) for row in chosen for place in row.places]
    assert len(asked) == len(set(asked))
    assert chosen[0].places[0] == 1 and chosen[1].places[0] > 5
    assert chosen[3].places == [], "the second row asks all of it"


def test_of_a_conversation_the_last_answer_counts(tokenizer: Any) -> None:
    messages = [
        {"role": "user", "content": "empty"}, {"role": "assistant", "content": "no"},
        {"role": "user", "content": "sunny"}, {"role": "assistant", "content": "yes"},
    ]  # fmt: skip
    question = tokenizer.apply_chat_template(messages[:3], add_generation_prompt=True, return_dict=True)["input_ids"]
    answer = [*tokenizer("yes", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    labels = [IGNORED] * len(question) + answer
    labels[4:6] = question[4:6]  # the first answer carries loss too
    rows = [{"input_ids": question + answer, "labels": labels}]
    (row,) = choose_rows(Answers(sft.answered, rows), read([{"messages": messages}]), tokenizer, 1)
    assert (row.prompt, row.answer, row.asked) == (question, answer, messages[:3])


def test_a_row_that_was_cut_to_length_is_asked_by_its_tokens(tokenizer: Any) -> None:
    raw = {"prompt": "Note: the harbour is empty, foggy and sunny.\nSwim:", "completion": " yes"}
    whole = tokenised(tokenizer, raw["prompt"], raw["completion"])
    cut = {name: values[5:] for name, values in whole.items()}
    (row,) = choose_rows(Answers(sft.answered, [cut]), read([raw]), tokenizer, 1)
    assert (row.asked, row.prompt + row.answer, row.length) == (None, cut["input_ids"], len(cut["input_ids"]))


def test_a_row_whose_every_token_has_loss_is_continued_from_its_middle(tokenizer: Any) -> None:
    raw = {"prompt": "Note: sunny", "completion": " yes"}
    ids = tokenised(tokenizer, raw["prompt"], raw["completion"])["input_ids"]
    (row,) = choose_rows(Answers(sft.answered, [{"input_ids": ids, "labels": ids}]), read([raw]), tokenizer, 1)
    assert (row.asked, len(row.prompt), row.prompt + row.answer) == (None, len(ids) // 2, ids)


def test_transformers_answers_rows_of_different_lengths_as_one_by_one(tiny_llama: Path, tokenizer: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval().requires_grad_(False)
    sizes = ((3, 2), (11, 3), (6, 1))
    answer_of = {size: [9, 8, 7][: size[1]] for size in sizes}
    rows = [Asked(list(range(5, 5 + size[0])), answer_of[size], None, 0, [1, size[0] - 1]) for size in sizes]
    found = answers(model, rows, 16, tokenizer.pad_token_id, tokenizer.eos_token_id)
    for row, answer in zip(rows, found, strict=True):
        ids = torch.tensor([row.prompt + row.answer])
        logprobs = model(ids).logits[0].log_softmax(-1)
        expected = [float(logprobs[len(row.prompt) - 1 + at, token]) for at, token in enumerate(row.answer)]
        assert answer["answer"] == pytest.approx(expected, abs=1e-4)
        expected = [float(logprobs[at - 1, row.prompt[at]]) for at in row.places]
        assert answer["question"] == pytest.approx(expected, abs=1e-4)
        prompt = list(row.prompt)
        for token, margin in zip(answer["tokens"], answer["margins"], strict=True):
            best = model(torch.tensor([prompt])).logits[0, -1].topk(2)
            assert token == int(best.indices[0])
            assert margin == pytest.approx(float(best.values[0] - best.values[1]), abs=1e-4)
            prompt.append(token)
        assert len(answer["tokens"]) == 3 or answer["tokens"][-1] == tokenizer.eos_token_id
