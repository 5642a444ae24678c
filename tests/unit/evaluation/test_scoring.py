"""Scores in batches equal those of each row alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.errors import InputError
from raytune_ft.evaluation.scoring import Scores, label_tokens, score

IGNORED = -100
CANDIDATES = [7, 11, 200]
PAD = 0


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Any:
    """Float32, so that only the method and not rounding decides."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


class Rows(list[dict[str, list[int]]]):
    """A list of rows that also gives a column, as a data set does."""

    def __getitem__(self, key: Any) -> Any:
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def rows(lengths: list[tuple[int, int]], *, loss_on_all: bool = False) -> Rows:
    """Rows of (prompt, answer) tokens; each answer begins with a candidate."""
    draw = random.Random(0)
    made = Rows()
    for index, (prompt, answer) in enumerate(lengths):
        ids = [draw.randrange(3, 300) for _ in range(prompt + answer)]
        ids[prompt] = CANDIDATES[index % 3]
        made.append({"input_ids": ids, "labels": ids if loss_on_all else [IGNORED] * prompt + ids[prompt:]})
    return made


def run(model: Any, data: Rows, batch_size: int, candidates: list[int] | None = None) -> Scores:
    return score(model, data, PAD, CANDIDATES if candidates is None else candidates, batch_size, lambda done, of: None)


def alone(model: Any, row: dict[str, list[int]]) -> tuple[float, int, int]:
    """Mean answer loss, answer tokens and choice of one row, from a plain forward pass over it."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([row["input_ids"]])).logits[0].double()
    logs = torch.log_softmax(logits, dim=-1)
    counted = [place for place in range(1, len(row["labels"])) if row["labels"][place] != IGNORED]
    loss = -sum(float(logs[place - 1, row["labels"][place]]) for place in counted) / len(counted)
    first = logits[counted[0] - 1]
    return loss, len(counted), max(range(3), key=lambda index: float(first[CANDIDATES[index]]))


LENGTHS = [(20, 2), (3, 1), (9, 5), (1, 3), (20, 2), (14, 9), (2, 1)]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_a_batch_scores_each_row_as_if_it_were_alone(model, batch_size: int) -> None:
    data = rows(LENGTHS)
    found = run(model, data, batch_size)
    expected = [alone(model, row) for row in data]
    assert found.loss == pytest.approx([loss for loss, _, _ in expected], abs=1e-5)
    assert found.tokens.tolist() == [answer for _, answer in LENGTHS]
    assert found.choice is not None and found.choice.tolist() == [choice for _, _, choice in expected]
    assert found.expected is not None and found.expected.tolist() == [index % 3 for index in range(len(LENGTHS))]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_where_the_whole_row_has_loss_padding_is_no_context(model, batch_size: int) -> None:
    data = rows(LENGTHS, loss_on_all=True)
    found = run(model, data, batch_size, [])
    assert found.loss == pytest.approx([alone(model, row)[0] for row in data], abs=1e-5)
    assert found.tokens.tolist() == [prompt + answer - 1 for prompt, answer in LENGTHS]
    assert found.choice is None and found.expected is None


def test_answers_apart_in_one_row_all_count(model) -> None:
    (row,) = rows([(4, 12)])
    row["labels"] = [label if place in (4, 5, 10, 11) else IGNORED for place, label in enumerate(row["input_ids"])]
    (short,) = rows([(2, 1)])
    found = run(model, Rows([row, short]), 2)
    assert found.tokens.tolist() == [4, 1]
    assert found.loss == pytest.approx([alone(model, row)[0], alone(model, short)[0]], abs=1e-5)


def test_the_model_is_asked_for_no_more_logits_than_the_answers_need(model) -> None:
    kept = []
    forward = model.forward

    class Watched:
        def __call__(self, **arguments: Any) -> Any:
            kept.append(arguments["logits_to_keep"])
            return forward(**arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

    run(Watched(), rows([(20, 2), (20, 3)]), 2)
    assert kept == [4]  # three answer tokens, and the one that predicts none


def test_progress_is_told_up_to_the_last_row(model) -> None:
    seen: list[tuple[int, int]] = []
    score(model, rows(LENGTHS), PAD, [], 3, lambda done, of: seen.append((done, of)))
    assert [of for _, of in seen] == [7, 7, 7] and seen[-1] == (7, 7)
    assert sorted(done for done, _ in seen) == [done for done, _ in seen]


def test_dropout_is_off_while_scoring(model) -> None:
    model.train()
    run(model, rows([(3, 1)]), 1)
    assert not model.training


def test_an_answer_that_is_no_label_is_refused(model) -> None:
    data = rows([(5, 2)])
    with pytest.raises(InputError, match=r"evaluate\.labels: a test row's answer begins with token 7, no label's"):
        run(model, data, 1, [11, 200])


class Words:
    """A tokenizer that knows each character."""

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [ord(letter) for letter in text]}


def test_labels_are_told_apart_by_their_first_token() -> None:
    assert label_tokens(Words(), ["yes", "no"]) == [ord("y"), ord("n")]
    assert label_tokens(Words(), []) == []
    with pytest.raises(InputError, match=r"evaluate\.labels: 'new' and 'no' begin with the same token; reword one"):
        label_tokens(Words(), ["yes", "new", "no"])
    with pytest.raises(InputError, match="'' has no tokens"):
        label_tokens(Words(), ["yes", ""])
