"""Both answers' scores equal those of a plain forward pass over each, whatever shares a batch."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.objectives.parts import Scoring
from raytune_ft.objectives.scoring.names import CHOSEN, REJECTED
from raytune_ft.objectives.scoring.preferences import score_preferences

PAD = 0
LENGTHS = [(20, 2, 5), (1, 1, 1), (9, 5, 2), (3, 8, 8), (14, 1, 9), (30, 3, 4), (2, 6, 1)]
"""Tokens of question, chosen and rejected answer."""


class Rows(list[dict[str, list[int]]]):
    """A list of rows that also gives a column, as a data set does."""

    def __getitem__(self, key: Any) -> Any:
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Any:
    """Float32, so that only the method and not rounding decides."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)


@pytest.fixture(scope="module")
def rows() -> Rows:
    draw = random.Random(0)
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    return Rows(
        {name: [draw.randrange(3, 300) for _ in range(size)] for name, size in zip(names, sizes, strict=True)}
        for sizes in LENGTHS
    )


def mean_logprob(model: Any, prompt: list[int], answer: list[int]) -> float:
    """Per token of the answer, in nats, in float64."""
    import torch

    with torch.no_grad():
        likely = torch.log_softmax(model(torch.tensor([[*prompt, *answer]])).logits[0].double(), dim=-1)
    return sum(float(likely[len(prompt) + at - 1, token]) for at, token in enumerate(answer)) / len(answer)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_a_batch_scores_each_answer_as_if_it_were_alone(model: Any, rows: Rows, batch_size: int) -> None:
    told: list[tuple[int, int]] = []
    model.train()  # scoring sets it to evaluation
    found = score_preferences(model, rows, Scoring(PAD, batch_size, progress=lambda *done: told.append(done)))
    chosen = [mean_logprob(model, row["prompt_ids"], row["chosen_ids"]) for row in rows]
    rejected = [mean_logprob(model, row["prompt_ids"], row["rejected_ids"]) for row in rows]
    assert not model.training
    assert found.more[CHOSEN] == pytest.approx(chosen, abs=1e-5)
    assert found.more[REJECTED] == pytest.approx(rejected, abs=1e-5)
    assert found.loss.tolist() == (-found.more[CHOSEN]).tolist(), "the loss is the wanted answer's"
    assert found.tokens.tolist() == [size for _, size, _ in LENGTHS]
    assert found.choice is None and found.expected is None
    assert told == sorted(told) and told[-1] == (len(rows), len(rows))


def test_swapped_answers_swap_their_scores(model: Any, rows: Rows) -> None:
    swapped = Rows({**row, "chosen_ids": row["rejected_ids"], "rejected_ids": row["chosen_ids"]} for row in rows)
    one, other = (score_preferences(model, each, Scoring(PAD, 4)) for each in (rows, swapped))
    assert one.more[CHOSEN] == pytest.approx(other.more[REJECTED], abs=1e-5)
    assert one.more[REJECTED] == pytest.approx(other.more[CHOSEN], abs=1e-5)
