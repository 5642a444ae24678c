"""The rows of all formats, once they are read: each knows its question, its answer, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raytune_ft.config.data import DataFormat

Question = str | list[dict[str, Any]]
"""What a client would send: a text, or messages as the OpenAI API has them."""


@dataclass(frozen=True, slots=True)
class PromptCompletion:
    """A prompt and the text that should follow it."""

    prompt: str
    completion: str
    line: int = field(compare=False)

    @property
    def form(self) -> DataFormat:
        """The format in which `as_json` writes the row."""
        return DataFormat.prompt_completion

    @property
    def question(self) -> Question:
        """The prompt."""
        return self.prompt

    @property
    def answer(self) -> str:
        """The completion."""
        return self.completion

    def has_answer(self) -> bool:
        """Tells whether the completion says something."""
        return bool(self.completion.strip())

    def texts(self) -> tuple[str, str, int]:
        """Returns what is asked, what is answered, and the number of turns that a chat template wraps: none."""
        return self.prompt, self.completion, 0

    def as_json(self) -> dict[str, Any]:
        """Returns the row as a line of its format."""
        return {"prompt": self.prompt, "completion": self.completion}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str

    def as_json(self) -> dict[str, str]:
        """Returns the message as data files and the OpenAI API write it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation; the assistant's turns are the answers."""

    messages: tuple[Message, ...]
    line: int = field(compare=False)

    @property
    def form(self) -> DataFormat:
        """The format in which `as_json` writes the row."""
        return DataFormat.messages

    @property
    def question(self) -> Question:
        """The messages before the assistant's last; all messages if the assistant says nothing."""
        return [message.as_json() for message in self.messages[: self._last()]]

    @property
    def answer(self) -> str:
        """The content of the assistant's last message; empty if there is none."""
        last = self._last()
        return self.messages[last].content if last < len(self.messages) else ""

    def has_answer(self) -> bool:
        """Tells whether the assistant speaks, and says something in each of its turns."""
        answers = [message.content for message in self.messages if message.role == "assistant"]
        return bool(answers) and all(answer.strip() for answer in answers)

    def texts(self) -> tuple[str, str, int]:
        """Returns the text of all that others say, that of all answers, and the number of turns."""
        asked = "\n".join(each.content for each in self.messages if each.role != "assistant")
        answered = "\n".join(each.content for each in self.messages if each.role == "assistant")
        return asked, answered, len(self.messages)

    def as_json(self) -> dict[str, Any]:
        """Returns the row as a line of its format."""
        return {"messages": [message.as_json() for message in self.messages]}

    def _last(self) -> int:
        """Returns the index of the assistant's last message; the number of messages if there is none."""
        found = (at for at in reversed(range(len(self.messages))) if self.messages[at].role == "assistant")
        return next(found, len(self.messages))


AnswerRow = PromptCompletion | Conversation
"""A row with one answer, as supervised fine-tuning takes it."""


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one question, of which the first is preferred.

    Both rows have the same question; conversations end with the answer. What is asked of a row with one answer is
    answered for the chosen one.
    """

    chosen: AnswerRow
    rejected: AnswerRow
    line: int = field(compare=False)

    @property
    def form(self) -> DataFormat:
        """The format in which `as_json` writes the row."""
        return DataFormat.preference_messages if self.chosen.form.chat else DataFormat.preference

    @property
    def question(self) -> Question:
        """The common question."""
        return self.chosen.question

    @property
    def answer(self) -> str:
        """The preferred answer."""
        return self.chosen.answer

    def has_answer(self) -> bool:
        """Tells whether both answers say something."""
        return self.chosen.has_answer() and self.rejected.has_answer()

    def texts(self) -> tuple[str, str, int]:
        """Returns the texts of the chosen row, and its number of turns."""
        return self.chosen.texts()

    def as_json(self) -> dict[str, Any]:
        """Returns the row as a line of its format, with its prompt written out."""
        chosen, rejected = ([{"role": "assistant", "content": row.answer}] for row in (self.chosen, self.rejected))
        if self.form.chat:
            return {"prompt": self.question, "chosen": chosen, "rejected": rejected}
        return {"prompt": self.question, "chosen": self.answer, "rejected": self.rejected.answer}


Row = PromptCompletion | Conversation | Preference
