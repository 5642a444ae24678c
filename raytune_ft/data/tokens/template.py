"""Tokenises conversations with the tokenizer's own chat template."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.rows import Conversation, Message
from raytune_ft.data.tokens.continuation import continuations
from raytune_ft.data.tokens.spans import Span, token_spans
from raytune_ft.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GENERATION = re.compile(r"\{%-?\s*generation\b")


class ChatTemplate:
    """Renders conversations, and finds which characters and tokens are the assistant's answers.

    A template with `{% generation %}` markers says so itself. With any other, an answer is the text that is added when
    one more message is rendered after the question; if the rendered question is not a prefix then, the row is refused.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        try:
            self.text: str = self._tokenizer.get_chat_template()
        except ValueError as error:
            remedy = "use an instruct model, or a format without messages"
            raise InputError(
                "base_model", "the tokenizer has no chat template, which rows of messages need", remedy
            ) from error
        self.sha256 = hashlib.sha256(self.text.encode("utf-8")).hexdigest()
        self._marked = _GENERATION.search(self.text) is not None

    def tokenise(self, conversation: Conversation) -> tuple[list[int], list[Span]]:
        """Returns the token ids, and the [start, end) of each answer including its end token.

        Everything before the last answer has the same tokens as at the chat endpoint.

        Raises:
            BadRow: The template refuses the conversation, or the start of an answer can't be found.
        """
        text, answers = self.render(conversation)
        start, end = answers[-1]
        [(ids, last)] = continuations(self._tokenizer, [text[:start]], [text[start:end]], special_tokens=False)
        spans = token_spans(self._tokenizer, text[:start], ids, answers[:-1])
        spans.append((len(ids), len(ids) + len(last)))
        ids = [*ids, *last]
        if end < len(text):
            [(_, rest)] = continuations(self._tokenizer, [text[:end]], [text[end:]], special_tokens=False)
            ids += rest
        return ids, [(start, self.end_of_answer(ids, start, end)) for start, end in spans]

    def render(self, conversation: Conversation) -> tuple[str, list[Span]]:
        """Returns the text, and the [start, end) of each answer in characters; raises BadRow as `tokenise`."""
        return self._by_markers(conversation) if self._marked else self._by_prefixes(conversation)

    def text_of(self, conversation: Conversation) -> str:
        """Returns the text only; raises BadRow if the template refuses the conversation."""
        return self._apply(conversation.messages)

    def end_of_answer(self, ids: list[int], start: int, end: int) -> int:
        """Returns the end of the answer after its end token; what the template writes after that is never generated."""
        end_token = self._tokenizer.eos_token_id
        for index in range(end - 1, start - 1, -1):
            if ids[index] == end_token:
                return index + 1
        return end

    def _by_markers(self, conversation: Conversation) -> tuple[str, list[Span]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        turns = [_turns(conversation.messages)]
        texts, answers = self._refusing(
            render_jinja_template,
            turns,
            chat_template=self.text,
            return_assistant_tokens_mask=True,
            **self._tokenizer.special_tokens_map,
        )
        spans = [(start, end) for start, end in answers[0] if start < end]
        if not spans:
            raise BadRow("the chat template marks no token of it as the assistant's", "check its generation markers")
        return texts[0], spans

    def _by_prefixes(self, conversation: Conversation) -> tuple[str, list[Span]]:
        messages = conversation.messages
        whole = self._apply(messages)
        answers: list[Span] = []
        done = 0
        for index, message in enumerate(messages):
            if message.role != "assistant":
                continue
            if index == 0:
                raise BadRow("starts with the assistant, so its answer answers nothing", "start with system or user")
            question = self._apply(messages[:index], add_generation_prompt=True)
            answered = self._apply(messages[: index + 1])
            if not answered.startswith(question):
                what = (
                    f"the chat template ends a question with {question[-24:]!r}, and shows messages[{index}] without it"
                )
                raise BadRow(what, "use a template that does both alike, or a format without messages")
            if not (whole.startswith(answered) and done <= len(question)):
                what = f"the chat template renders messages[{index}] differently as part of the whole conversation"
                raise BadRow(what, "give a row to each answer, or use a template with generation markers")
            done = len(answered)
            answers.append((len(question), done))
        return whole, answers

    def _apply(self, messages: Sequence[Message], **options: Any) -> str:
        text: str = self._refusing(self._tokenizer.apply_chat_template, _turns(messages), tokenize=False, **options)
        return text

    def _refusing(self, render: Any, turns: Any, **options: Any) -> Any:
        from jinja2 import TemplateError

        try:
            return render(turns, **options)
        except TemplateError as error:
            raise BadRow(f"the chat template refuses it: {error}", "check the order of the roles") from None


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
