"""Turns preference rows into token ids: those of the question, and of both answers to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raytune_ft.data.bad_rows import BadRow, BadRows
from raytune_ft.data.rows import Conversation, Preference, PromptCompletion
from raytune_ft.data.tokens.continuation import continuations
from raytune_ft.data.tokens.template import ChatTemplate
from raytune_ft.data.tokens.tokenize import BATCH_ROWS
from raytune_ft.data.tokens.tokenizer import added_start

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class PreferenceTokens:
    """One preference row in token ids.

    Attributes:
        prompt: The question, as it is served.
        chosen: The wanted answer, with its end token.
        rejected: The other answer, with its end token.
        cut: Whether the question was truncated on the left.
    """

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    cut: bool


class PreferenceTokeniser:
    """Tokenises the preference rows of one experiment.

    Args:
        tokenizer: The base model's tokenizer.
        template: Renders conversations; None for plain text.
        max_length: Most tokens of the question with either answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate | None, max_length: int) -> None:
        self._tokenizer, self._template, self._max_length = tokenizer, template, max_length
        self._start = added_start(tokenizer)

    def rows(
        self, rows: Sequence[Preference], bad_rows: BadRows
    ) -> Iterator[tuple[Preference, PreferenceTokens | None]]:
        """Yields each row with its tokens, or None if an answer does not fit; bad rows go to `bad_rows`."""
        for first in range(0, len(rows), BATCH_ROWS):
            for row, found in self._encode(rows[first : first + BATCH_ROWS], bad_rows):
                yield row, self._fit(*found)

    def _encode(
        self, batch: Sequence[Preference], bad_rows: BadRows
    ) -> Iterator[tuple[Preference, tuple[list[int], list[int], list[int]]]]:
        plain = [
            (row, row.chosen, row.rejected)
            for row in batch
            if isinstance(row.chosen, PromptCompletion) and isinstance(row.rejected, PromptCompletion)
        ]
        prompts = [each.prompt for _, *both in plain for each in both]
        answers = [each.completion for _, *both in plain for each in both]
        found = iter(continuations(self._tokenizer, prompts, answers, special_tokens=True))
        end: int = self._tokenizer.eos_token_id
        for row, *_ in plain:
            (prompt, chosen), (_, rejected) = next(found), next(found)
            if not prompt:
                bad_rows.add(row.line, BadRow("its prompt has no tokens, so nothing predicts an answer", "give it one"))
                continue
            yield row, (prompt, [*chosen, end], [*rejected, end])
        for row in batch:
            if isinstance(row.chosen, Conversation) and isinstance(row.rejected, Conversation):
                try:
                    yield row, self._of_conversations(row.chosen, row.rejected)
                except BadRow as problem:
                    bad_rows.add(row.line, problem)

    def _of_conversations(self, chosen: Conversation, rejected: Conversation) -> tuple[list[int], list[int], list[int]]:
        assert self._template is not None
        sides = []
        for conversation in (chosen, rejected):
            ids, answers = self._template.tokenise(conversation)
            start, end = answers[-1]
            sides.append((ids[:start], ids[start:end]))
        (prompt, wanted), (other, unwanted) = sides
        if prompt != other:
            what = "the chat template writes the question otherwise before the chosen answer than before the other"
            raise BadRow(what, "use a template that does both alike")
        return prompt, wanted, unwanted

    def _fit(self, prompt: list[int], chosen: list[int], rejected: list[int]) -> PreferenceTokens | None:
        """Truncates the question on its left, behind a start token, so that the longer answer fits."""
        excess = max(0, len(prompt) + max(len(chosen), len(rejected)) - self._max_length)
        head = 1 if self._start is not None and prompt[:1] == [self._start] else 0
        if not prompt or (excess and head + excess >= len(prompt)):
            return None
        return PreferenceTokens(prompt[:head] + prompt[head + excess :], chosen, rejected, cut=excess > 0)
