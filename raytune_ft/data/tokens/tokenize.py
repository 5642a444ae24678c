"""Turns rows into token ids and labels, truncated to the maximum length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raytune_ft.data.bad_rows import BadRow, BadRows
from raytune_ft.data.rows import Conversation, PromptCompletion, Row
from raytune_ft.data.tokens.continuation import continuations
from raytune_ft.data.tokens.spans import Span
from raytune_ft.data.tokens.template import ChatTemplate
from raytune_ft.data.tokens.tokenizer import added_start

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label that PyTorch's cross entropy ignores
BATCH_ROWS = 1000


@dataclass(frozen=True, slots=True)
class TokenisedRow:
    """One row as a model is trained on it."""

    input_ids: list[int]
    labels: list[int]
    """`input_ids` for tokens with a loss, -100 elsewhere; not shifted."""
    cut: bool
    """Whether the row was truncated on the left."""


class RowTokeniser:
    """Tokenises rows of one experiment.

    Args:
        tokenizer: The base model's tokenizer.
        template: Renders conversations; None for prompt and completion.
        max_length: Most tokens of a row.
        loss_on_all: Whether the prompt's tokens have a loss too.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate | None, max_length: int, loss_on_all: bool
    ) -> None:
        self._tokenizer, self._template = tokenizer, template
        self._max_length, self._loss_on_all = max_length, loss_on_all
        self._start = added_start(tokenizer)

    def rows(self, rows: Sequence[Row], bad_rows: BadRows) -> Iterator[tuple[Row, TokenisedRow | None]]:
        """Yields each row with its tokens, or None if none has a loss; rows that can't be rendered go to `bad_rows`."""
        for first in range(0, len(rows), BATCH_ROWS):
            batch = rows[first : first + BATCH_ROWS]
            for row, (ids, answers) in self._encode(batch, bad_rows):
                yield row, fit(ids, answers, self._max_length, self._start, self._loss_on_all)

    def _encode(self, batch: Sequence[Row], bad_rows: BadRows) -> Iterator[tuple[Row, tuple[list[int], list[Span]]]]:
        if strange := [row for row in batch if not isinstance(row, PromptCompletion | Conversation)]:
            raise TypeError(f"rows of type {type(strange[0]).__name__} have no one answer to learn")
        pairs = [row for row in batch if isinstance(row, PromptCompletion)]
        prompts, completions = [row.prompt for row in pairs], [row.completion for row in pairs]
        found = continuations(self._tokenizer, prompts, completions, special_tokens=True)
        end_token: int = self._tokenizer.eos_token_id
        for pair, (prompt, completion) in zip(pairs, found, strict=True):
            ids = [*prompt, *completion, end_token]
            yield pair, (ids, [(len(prompt), len(ids))])
        for row in batch:
            if isinstance(row, Conversation):
                assert self._template is not None
                try:
                    yield row, self._template.tokenise(row)
                except BadRow as problem:
                    bad_rows.add(row.line, problem)


def fit(
    ids: list[int], answers: Sequence[Span], max_length: int, start_token: int | None, loss_on_all: bool
) -> TokenisedRow | None:
    """Truncates a row to `max_length` from the left of its prompt, never into its last answer.

    Args:
        ids: Token ids of the whole row.
        answers: [start, end) of each answer, in order.
        max_length: Most tokens to keep.
        start_token: Token that is kept in front if the row starts with it.
        loss_on_all: Whether all tokens have a loss; otherwise only those of answers that are complete after truncation.

    Returns:
        None if the last answer does not fit after at least one token of its prompt, or no token has a loss.
    """
    last_start, last_end = answers[-1]
    ids = ids if loss_on_all else ids[:last_end]  # tokens after the last answer have no loss and no effect
    excess = max(0, len(ids) - max_length)
    head = 1 if start_token is not None and ids[:1] == [start_token] else 0
    if excess and head + excess >= last_start:
        return None
    removed = head + excess if excess else 0
    labels = list(ids) if loss_on_all else [IGNORED] * len(ids)
    if not loss_on_all:
        for start, end in answers:
            if start >= removed:
                labels[start:end] = ids[start:end]
    if excess:
        ids, labels = ids[:head] + ids[removed:], labels[:head] + labels[removed:]
    if all(label == IGNORED for label in labels[1:]):  # the first token never has a loss
        return None
    return TokenisedRow(ids, labels, cut=excess > 0)
