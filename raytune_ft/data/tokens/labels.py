"""Tokenises each label as if it were a row's answer, and finds which label the row's own answer is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raytune_ft.data.bad_rows import BadRow, BadRows, raise_bad_rows
from raytune_ft.data.prepared import PreparedData
from raytune_ft.data.rows import Conversation, PromptCompletion, Row
from raytune_ft.data.tokens.continuation import continuations
from raytune_ft.data.tokens.near_labels import label_remedy
from raytune_ft.data.tokens.template import ChatTemplate
from raytune_ft.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "\ue000"  # a private-use character, which no template contains
_WHERE = "evaluate.labels"
_REMEDY = "use another template, or leave evaluate.labels out"


@dataclass(frozen=True)
class RowLabels:
    """The answers that are compared on one row.

    Attributes:
        answer: Token ids of the row's last answer, including its end token.
        labels: Token ids of each label; they include the end token if one label is a prefix of another.
        expected: Index of the label that the answer is, or begins with.
    """

    answer: tuple[int, ...]
    labels: tuple[tuple[int, ...], ...]
    expected: int


@dataclass(frozen=True)
class _Texts:
    """The texts of a row with its own last answer, and with each label in its place.

    Attributes:
        question: The text before the answer.
        before: The text that the template writes between question and content, such as an empty thinking block.
        content: The row's own answer as the template writes it.
        contents: Each label as the template writes it.
        after: The text that the template writes after the content.
    """

    question: str
    before: str
    content: str
    contents: list[str]
    after: str


class LabelReader:
    """Tokenises the labels of one experiment for each row.

    Args:
        tokenizer: The base model's tokenizer.
        template: Renders conversations; None for prompt and completion.
        labels: The setting `evaluate.labels`.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate | None, labels: Sequence[str]
    ) -> None:
        self._tokenizer, self._template, self._labels = tokenizer, template, list(labels)

    def read(self, row: Row) -> RowLabels:
        """Returns the row's labels.

        Raises:
            BadRow: The answer is none of the labels, or its content can't be located in the template's text.
            InputError: Two labels can't be told apart.
        """
        if isinstance(row, Conversation):
            assert self._template is not None
            texts = _of_conversation(row, self._template, self._labels)
        elif isinstance(row, PromptCompletion):
            texts = _Texts(row.prompt, "", row.completion, self._labels, "")
        else:
            raise BadRow("has two answers, and labels are compared with one", f"leave {_WHERE} out")
        expected = self._expected(texts)
        answer, strings, wholes = self._tokens(texts)
        counts_end = self._counts_end(strings, wholes)
        compared = wholes if counts_end else strings
        label = self._labels[expected]
        if counts_end and texts.content != texts.contents[expected]:
            what = f"the answer goes on after the label {label!r}, and as labels begin each other, its end counts"
            raise BadRow(what, "make the answer the label alone, or reword the labels")
        if answer[: len(compared[expected])] != compared[expected]:
            what = f"answer {_shown(texts.content)} begins with the label {label!r}, but with other tokens"
            raise BadRow(what, "add the whole answer to the labels, or mend the row")
        return RowLabels(answer, tuple(compared), expected)

    def _expected(self, texts: _Texts) -> int:
        begins = [at for at, content in enumerate(texts.contents) if texts.content.startswith(content)]
        if not begins:
            what = f"answer {_shown(texts.content)} is none of {_WHERE} {self._labels}"
            raise BadRow(what, label_remedy(texts.content, texts.contents))
        return max(begins, key=lambda at: len(texts.contents[at]))

    def _tokens(self, texts: _Texts) -> tuple[tuple[int, ...], list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Returns the tokens of the row's answer, of each label without its end, and of each label with its end."""
        served = self._template is None
        each = [texts.before + content for content in (texts.content, *texts.contents)]
        answers = each + ([text + texts.after for text in each] if texts.after else [])
        questions = [texts.question] * len(answers)
        found = continuations(self._tokenizer, questions, answers, special_tokens=served)
        if not found[0][0]:
            raise BadRow("its prompt has no tokens, so no label's first token is predicted", "give it a prompt")
        strings = [tuple(ids) for _, ids in found[: len(each)]]
        if self._template is None:
            wholes = [(*ids, self._tokenizer.eos_token_id) for ids in strings]
        else:
            whole = [ids for _, ids in found[len(each) :]] or [list(ids) for ids in strings]
            wholes = [tuple(ids[: self._template.end_of_answer(ids, 0, len(ids))]) for ids in whole]
        return wholes[0], strings[1:], wholes[1:]

    def _counts_end(self, strings: list[tuple[int, ...]], wholes: list[tuple[int, ...]]) -> bool:
        """Tells whether labels differ only if their end tokens are included; raises InputError if not even then."""
        parted = all(whole[: len(string)] == string for string, whole in zip(strings, wholes, strict=True))
        if parted and _beginning(strings) is None:
            return False
        if (pair := _beginning(wholes)) is not None:
            one, other = (self._labels[at] for at in pair)
            what = f"{one!r} and {other!r} have the same tokens" if wholes[pair[0]] == wholes[pair[1]] else ""
            what = what or f"{one!r} begins {other!r}, and the chat template writes no end of an answer"
            raise InputError(_WHERE, what, "reword one")
        return True


def check_labels(reader: LabelReader, rows: Sequence[Row], bad_rows: BadRows) -> None:
    """Adds rows whose answer can't be compared to `bad_rows`; raises InputError if two labels can't be told apart."""
    for row in rows:
        try:
            reader.read(row)
        except BadRow as problem:
            bad_rows.add(row.line, problem)


def read_labels(
    tokenizer: PreTrainedTokenizerBase, labels: Sequence[str], data: PreparedData
) -> list[RowLabels] | None:
    """Returns the labels of each row of a prepared test split, or None if the experiment has no labels.

    Raises:
        InputError: An answer is not a label, or two labels can't be told apart.
    """
    if not labels:
        return None
    template = ChatTemplate(tokenizer) if data.form.chat else None
    reader = LabelReader(tokenizer, template, labels)
    bad_rows = BadRows(data.test_rows)
    found = []
    for row in data.read_test_rows():
        try:
            found.append(reader.read(row))
        except BadRow as problem:
            bad_rows.add(row.line, problem)
    raise_bad_rows([bad_rows])
    return found


def _of_conversation(row: Conversation, template: ChatTemplate, labels: Sequence[str]) -> _Texts:
    text, answers = template.render(row)
    start, end = answers[-1]
    question, rest = text[:start], text[end:]

    def answer(content: str) -> str:
        """Returns the text that the template writes for another content."""
        last = max(at for at, message in enumerate(row.messages) if message.role == "assistant")
        turns = [*row.messages[:last], replace(row.messages[last], content=content), *row.messages[last + 1 :]]
        other = template.text_of(Conversation(tuple(turns), row.line))
        if not (other.startswith(question) and other.endswith(rest) and len(other) >= len(question) + len(rest)):
            raise BadRow("the chat template writes other text around an answer than around a label", _REMEDY)
        return other[len(question) : len(other) - len(rest)]

    marked = answer(_MARK)
    if marked.count(_MARK) != 1:
        raise BadRow("the chat template doesn't show what the assistant says once, as it is", _REMEDY)
    before, _, after = marked.partition(_MARK)
    contents = []
    for whole in (text[start:end], *map(answer, labels)):
        if not (whole.startswith(before) and whole.endswith(after) and len(whole) > len(before) + len(after)):
            raise BadRow("the chat template writes other text around an answer than around a label", _REMEDY)
        contents.append(whole[len(before) : len(whole) - len(after)])
    return _Texts(question, before, contents[0], contents[1:], after)


def _beginning(labels: Sequence[tuple[int, ...]]) -> tuple[int, int] | None:
    """Returns the indices of two labels of which the first is a prefix of the second or equal to it, or None."""
    for one, tokens in enumerate(labels):
        for other, longer in enumerate(labels):
            if one != other and longer[: len(tokens)] == tokens:
                return one, other
    return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
