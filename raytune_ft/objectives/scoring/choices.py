"""Finds the fewest passes that give the probability of each label's tokens, and chooses the likeliest label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

Path = tuple[int, ...]
"""A prefix of an answer, as token ids."""
Step = tuple[Path, int]
"""One prediction: the answer's tokens before a token, and the token."""


def further_answers(own: Path, labels: Sequence[Path]) -> list[Path]:
    """Returns the fewest answer prefixes that the model must read in addition to the row's own answer.

    A label's last token is only predicted, never read, and a prefix of another answer that is read needs no pass of its
    own.
    """
    wanted = sorted({label[:-1] for label in labels})
    begun = [one for one, other in pairwise(wanted) if other[: len(one)] == one]
    return [path for path in wanted if path not in begun and own[: len(path)] != path]


def steps_of(answers: Sequence[Path], labels: Sequence[Path]) -> list[list[Step]]:
    """Assigns each of the labels' predictions to the first answer whose reading yields it."""
    left = dict.fromkeys((label[:at], label[at]) for label in labels for at in range(len(label)))
    steps: list[list[Step]] = []
    for answer in answers:
        here = [step for step in left if answer[: len(step[0])] == step[0]]
        for step in here:
            del left[step]
        steps.append(here)
    return steps


def likeliest(labels: Sequence[Path], logprobs: Mapping[Step, float]) -> int:
    """Returns the index of the label with the highest sum of log-probabilities; the first of several."""
    sums = [sum(logprobs[label[:at], label[at]] for at in range(len(label))) for label in labels]
    return max(range(len(labels)), key=sums.__getitem__)
