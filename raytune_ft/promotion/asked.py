"""Chooses the held-out rows that the gate parity asks of both transformers and vLLM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from raytune_ft.data.rows import Question, Row
from raytune_ft.data.tokens.tokenize import IGNORED
from raytune_ft.data.tokens.tokenizer import encode
from raytune_ft.objectives.parts import Answered

_MAX_ANSWER = 32  # most tokens of an answer, each of which takes a request to vLLM
_PLACES, _WINDOW = 4, 128  # most tokens of the question that are scored too, spread over its last 128 tokens


@dataclass(frozen=True)
class Asked:
    """One held-out row.

    Attributes:
        prompt: Token ids before the last answer, as the run tokenised them.
        answer: Token ids of the true answer.
        asked: The text or messages that a client would send; None if the run truncated the row, so that only its token
            ids are the same question.
        length: Number of tokens of the question, as a client sends it, and the answer together.
        places: Positions in `prompt` whose tokens are scored too. They show errors that the answer may hide: a model
            that is sure of its answers gives nearly the same log-probabilities even with an adapter of twice the
            strength. Positions within a prefix that an earlier row shares are left out; rows with a common template
            would otherwise score the same tokens again and again, and these would dominate the mean.
    """

    prompt: list[int]
    answer: list[int]
    asked: Question | None
    length: int
    places: list[int] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as they are passed to the engines."""
        return asdict(self)


@dataclass(frozen=True)
class Answers:
    """The prepared rows of a split, each as a question with the answer that is wanted.

    Attributes:
        of: The objective's function that says so of a row.
        rows: The prepared rows.
    """

    of: Callable[[Mapping[str, Any]], Answered]
    rows: Any

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> Answered:
        return self.of(self.rows[at])


def choose_rows(prepared: Answers, raw: Sequence[Row], tokenizer: Any, count: int) -> list[Asked]:
    """Returns `count` evenly spaced rows of the test split, or all if there are fewer.

    Args:
        prepared: The prepared rows.
        raw: The same rows before tokenisation.
        tokenizer: The base's tokenizer as it is now.
        count: Number of rows.
    """
    total = len(prepared)
    wanted = [at * total // min(count, total) for at in range(min(count, total))]
    rows: list[Asked] = []
    for at in wanted:
        row = _row(prepared[at], raw[at], tokenizer)
        shared = max((_alike(row.prompt, earlier.prompt) for earlier in rows), default=0)
        rows.append(replace(row, places=_places(shared, len(row.prompt))))
    return rows


def _row(row: Answered, raw: Row, tokenizer: Any) -> Asked:
    ids, labels = row.input_ids, row.labels
    end = max(at for at, label in enumerate(labels) if label != IGNORED) + 1
    start = end
    while start > 0 and labels[start - 1] != IGNORED:
        start -= 1
    if start <= 1:  # every token has a loss, so that the start of the answer is unknown
        start, question = max(1, end // 2), None
    else:
        question = raw.question
    prompt, answer = ids[:start], ids[start : min(end, start + _MAX_ANSWER)]
    read = _read(question, tokenizer) if question is not None else prompt
    if len(read) > len(prompt):  # the run truncated the row
        question, read = None, prompt
    return Asked(prompt, answer, question, max(len(read), len(prompt)) + len(answer))


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Returns the length of the common prefix."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))


def _places(shared: int, length: int) -> list[int]:
    first = max(shared + 1, length - _WINDOW)  # + 1: the first token has nothing before it to be predicted from
    count = max(0, min(_PLACES, length - first))
    return [first + at * (length - first) // count for at in range(count)]


def _read(question: Question, tokenizer: Any) -> list[int]:
    if isinstance(question, str):
        return encode(tokenizer, [question], special_tokens=True)[0]
    ids: list[int] = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=True)["input_ids"]
    return ids
