"""The held-out rows that transformers and vLLM are both asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from raytune_ft.data.tokens.tokenize import IGNORED
from raytune_ft.data.tokens.tokenizer import encode

_MAX_ANSWER = 32  # tokens; vLLM is asked once for each
_PLACES, _WINDOW = 4, 128  # tokens of the question that count too, at most, spread over its last so many


@dataclass(frozen=True)
class Asked:
    """One row.

    Attributes:
        prompt: Token ids before the last answer, as the run tokenised them.
        answer: Token ids of the true answer.
        asked: What a client sends: a text, or messages; None where the run cut the row to length, so that only its
            tokens are the same question.
        length: Tokens that the question, as a client sends it, and the answer take.
        places: Positions in `prompt` whose tokens are scored too: a model that is sure of its answers gives nearly the
            same log-probabilities with twice the adapter, of the question's words it does not. None of them follows
            what an earlier row begins with as well: rows that share a template would ask the same thing again and
            again, and its drift would be the mean's.
    """

    prompt: list[int]
    answer: list[int]
    asked: str | list[dict[str, Any]] | None
    length: int
    places: list[int] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As the engines are told it."""
        return asdict(self)


def choose_rows(tokenised: Any, raw: Path, tokenizer: Any, count: int) -> list[Asked]:
    """`count` rows of the test split, evenly spaced, or all where there are fewer.

    Args:
        tokenised: The split, with `input_ids` and `labels`.
        raw: The same rows as JSONL, before they were tokenised.
        tokenizer: The base's, as it is now.
        count: How many.
    """
    total = len(tokenised)
    wanted = [at * total // min(count, total) for at in range(min(count, total))]
    lines = [line for line in raw.read_text(encoding="utf-8").split("\n") if line]  # an answer may hold U+2028
    rows: list[Asked] = []
    for at in wanted:
        row = _row(tokenised[at], json.loads(lines[at]), tokenizer)
        shared = max((_alike(row.prompt, earlier.prompt) for earlier in rows), default=0)
        rows.append(replace(row, places=_places(shared, len(row.prompt))))
    return rows


def _row(tokens: Mapping[str, Any], raw: Mapping[str, Any], tokenizer: Any) -> Asked:
    ids, labels = list(tokens["input_ids"]), list(tokens["labels"])
    end = max(at for at, label in enumerate(labels) if label != IGNORED) + 1
    start = end
    while start > 0 and labels[start - 1] != IGNORED:
        start -= 1
    if start <= 1:  # every token has a loss, so where the answer begins is not marked
        start, question = max(1, end // 2), None
    else:
        question = _question(raw)
    prompt, answer = ids[:start], ids[start : min(end, start + _MAX_ANSWER)]
    read = _read(question, tokenizer) if question is not None else prompt
    if len(read) > len(prompt):  # cut to length
        question, read = None, prompt
    return Asked(prompt, answer, question, max(len(read), len(prompt)) + len(answer))


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))


def _places(shared: int, length: int) -> list[int]:
    first = max(shared + 1, length - _WINDOW)  # the first token is predicted from nothing
    count = max(0, min(_PLACES, length - first))
    return [first + at * (length - first) // count for at in range(count)]


def _question(raw: Mapping[str, Any]) -> str | list[dict[str, Any]]:
    """What stands before the last answer."""
    if "prompt" in raw:
        return str(raw["prompt"])
    messages: Sequence[Mapping[str, Any]] = raw["messages"]
    last = max(at for at, message in enumerate(messages) if message["role"] == "assistant")
    return [dict(message) for message in messages[:last]]


def _read(question: str | list[dict[str, Any]], tokenizer: Any) -> list[int]:
    if isinstance(question, str):
        return encode(tokenizer, [question], special_tokens=True)[0]
    ids: list[int] = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=True)["input_ids"]
    return ids
