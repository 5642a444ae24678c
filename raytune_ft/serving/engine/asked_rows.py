"""Held-out rows that an engine is asked for the gate parity: what is asked about each, and what the answers come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Place = tuple[list[int], int]
"""The tokens before one that counts, and that one."""


def places(row: Mapping[str, Any], prompt: list[int]) -> list[Place]:
    """The places of a row whose log-probability is asked for.

    The answer stands behind the prompt as the endpoint reads it: what it reads otherwise than the run has to show. The
    question's tokens count where both read the same.

    Args:
        row: `prompt`, `answer` and `places`, token ids and positions, as the run has them.
        prompt: The same question as the endpoint reads it.
    """
    question = row["places"] if prompt == row["prompt"] else []
    answer = [([*prompt, *row["answer"][:at]], token) for at, token in enumerate(row["answer"])]
    return [(prompt[:at], prompt[at]) for at in question] + answer


def answers(
    rows: Sequence[Mapping[str, Any]],
    asked: Sequence[Sequence[Place]],
    prompts: Sequence[list[int]],
    given: Sequence[list[int]],
    logprobs: Iterator[float],
) -> list[dict[str, Any]]:
    """One `promotion.parity.Answer` for each row, as plain values.

    Args:
        rows: What was asked.
        asked: The places of each.
        prompts: How each was read.
        given: The tokens of each greedy answer.
        logprobs: Of all places, row by row.
    """
    found = []
    for row, of_row, prompt, tokens in zip(rows, asked, prompts, given, strict=True):
        values = [next(logprobs) for _ in of_row]
        asked_for = len(of_row) - len(row["answer"])
        found.append(
            {
                "question": values[:asked_for],
                "answer": values[asked_for:],
                "tokens": tokens,
                "read_otherwise": prompt != row["prompt"],
            }
        )
    return found
