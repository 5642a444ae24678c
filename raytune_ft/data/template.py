"""Conversations as tokens, through the tokenizer's own chat template."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.rows import Conversation, Message
from raytune_ft.data.tokenizer import encode
from raytune_ft.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
_GENERATION = re.compile(r"\{%-?\s*generation\b")


class ChatTemplate:
    """Renders conversations, and knows which tokens the assistant wrote.

    A template with `{% generation %}` markers says so itself. For any other, the text of an answer is what rendering
    one message more adds to the rendered question; where that does not hold, the row is refused.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        try:
            self.text: str = self._tokenizer.get_chat_template()
        except ValueError as error:
            remedy = "use an instruct model, or format: prompt_completion"
            raise InputError(
                "base_model", "the tokenizer has no chat template, which format messages needs", remedy
            ) from error
        self.sha256 = hashlib.sha256(self.text.encode("utf-8")).hexdigest()
        self._marked = _GENERATION.search(self.text) is not None

    def tokenise(self, conversation: Conversation) -> tuple[list[int], list[Span]]:
        """Token ids, and the [start, end) of each answer, up to and with its end token.

        Raises:
            BadRow: The template refuses the conversation, or hides where an answer starts.
        """
        ids, answers = self._by_markers(conversation) if self._marked else self._by_prefixes(conversation)
        return ids, [(start, self._end_of_answer(ids, start, end)) for start, end in answers]

    def _by_markers(self, conversation: Conversation) -> tuple[list[int], list[Span]]:
        encoding = self._apply(
            conversation.messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        mask: list[int] = [*encoding["assistant_masks"], 0]
        edges = [i for i in range(len(mask)) if mask[i] != (mask[i - 1] if i else 0)]
        if not edges:
            raise BadRow("the chat template marks no token of it as the assistant's", "check its generation markers")
        return list(encoding["input_ids"]), list(zip(edges[::2], edges[1::2], strict=True))

    def _by_prefixes(self, conversation: Conversation) -> tuple[list[int], list[Span]]:
        messages = conversation.messages
        whole: str = self._apply(messages, tokenize=False)
        pieces: list[str] = []  # question, answer, question, answer, ..., rest
        done = 0
        for index, message in enumerate(messages):
            if message.role != "assistant":
                continue
            if index == 0:
                raise BadRow("starts with the assistant, so its answer answers nothing", "start with system or user")
            question: str = self._apply(messages[:index], tokenize=False, add_generation_prompt=True)
            answered: str = self._apply(messages[: index + 1], tokenize=False)
            if not (whole.startswith(answered) and answered.startswith(question) and done <= len(question)):
                what = f"the chat template renders messages[{index}] differently as part of the whole conversation"
                raise BadRow(what, "give a row to each answer, or use a template with generation markers")
            pieces += [whole[done : len(question)], whole[len(question) : len(answered)]]
            done = len(answered)
        pieces.append(whole[done:])
        ids: list[int] = []
        answers: list[Span] = []
        for index, piece in enumerate(encode(self._tokenizer, pieces, special_tokens=False)):
            if index % 2:
                answers.append((len(ids), len(ids) + len(piece)))
            ids += piece
        return ids, answers

    def _apply(self, messages: Sequence[Message], **options: Any) -> Any:
        from jinja2 import TemplateError

        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._tokenizer.apply_chat_template(turns, **options)
        except TemplateError as error:
            raise BadRow(f"the chat template refuses it: {error}", "check the order of the roles") from None

    def _end_of_answer(self, ids: list[int], start: int, end: int) -> int:
        """Nothing is generated after the end token, so nothing after it is learned."""
        end_token = self._tokenizer.eos_token_id
        for index in range(end - 1, start - 1, -1):
            if ids[index] == end_token:
                return index + 1
        return end
