"""What a model has to read so that each label's tokens are predicted once, and which label comes out likeliest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

Path = tuple[int, ...]
"""Tokens of an answer up to some place."""
Step = tuple[Path, int]
"""A token, and the tokens of the answer before it."""


def further_answers(own: Path, labels: Sequence[Path]) -> list[Path]:
    """Beginnings of answers that have to be read besides the row's own, the fewest: a label's last token is predicted
    and never read, and what begins another answer that is read needs no reading of its own."""
    wanted = sorted({label[:-1] for label in labels})
    begun = [one for one, other in pairwise(wanted) if other[: len(one)] == one]
    return [path for path in wanted if path not in begun and own[: len(path)] != path]


def steps_of(answers: Sequence[Path], labels: Sequence[Path]) -> list[list[Step]]:
    """The labels' steps, each once, under the first answer whose reading gives it."""
    left = dict.fromkeys((label[:at], label[at]) for label in labels for at in range(len(label)))
    steps: list[list[Step]] = []
    for answer in answers:
        here = [step for step in left if answer[: len(step[0])] == step[0]]
        for step in here:
            del left[step]
        steps.append(here)
    return steps


def likeliest(labels: Sequence[Path], logprobs: Mapping[Step, float]) -> int:
    """The label whose tokens have the greatest sum of log-probabilities; the first of several."""
    sums = [sum(logprobs[label[:at], label[at]] for at in range(len(label))) for label in labels]
    return max(range(len(labels)), key=sums.__getitem__)
