"""For the gate parity: says which log-probabilities of held-out rows to ask an engine for, and reports its answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Place = tuple[list[int], int]
"""One token whose log-probability is asked for: the ids of all tokens before it, and its own id."""


def places(row: Mapping[str, Any], prompt: list[int]) -> list[Place]:
    """Returns the tokens of a row whose log-probability is asked for.

    These are the answer's tokens, placed after the prompt as the endpoint tokenises it, so that a difference from the
    run's tokens shows in their values. The question's tokens are included only where both token lists are equal.

    Args:
        row: The run's view of the row: `prompt` and `answer` are token ids, `places` are positions in the prompt.
        prompt: Token ids of the same question as the endpoint tokenises it.
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
    """Returns the fields of one `promotion.parity.Answer` for each row, as plain values that can cross processes.

    Args:
        rows: The rows as the run has them.
        asked: For each row, the places that were asked for.
        prompts: For each row, the prompt's token ids as the endpoint tokenises it.
        given: For each row, the token ids of the greedy answer.
        logprobs: The log-probabilities of all places, row by row.
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
