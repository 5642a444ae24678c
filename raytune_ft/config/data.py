"""`data:`: the rows for training, their split, and the longest row."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, StrictFloat, StrictInt, model_validator

from raytune_ft.config.model import Strict

RowKind = Literal["answer", "preference"]
"""What a row shows: one answer to learn, or two of which the first is preferred."""
PromptForm = Literal["prompt_completion", "messages"]
"""How a served model is asked: by plain completion, or by chat with the base's template."""


class DataFormat(StrEnum):
    """The format of a row."""

    messages = "messages"
    prompt_completion = "prompt_completion"
    preference = "preference"
    preference_messages = "preference_messages"

    @property
    def rows(self) -> RowKind:
        """What its rows show."""
        return "preference" if self in (DataFormat.preference, DataFormat.preference_messages) else "answer"

    @property
    def chat(self) -> bool:
        """Whether rows hold messages, which need the base's chat template."""
        return self in (DataFormat.messages, DataFormat.preference_messages)

    @property
    def served_as(self) -> PromptForm:
        """The prompt form in which a model that was trained on these rows is asked."""
        return "messages" if self.chat else "prompt_completion"

    @property
    def canonical(self) -> DataFormat:
        """The format in which prepared rows of this kind are kept, whatever names their keys had."""
        return _CANONICAL[self.rows, self.chat]

    @property
    def keys(self) -> str:
        """Its keys, for a person."""
        return _KEYS[self]

    @property
    def plain(self) -> DataFormat:
        """The format of the same kind of rows that needs no chat template."""
        return DataFormat.preference if self.rows == "preference" else DataFormat.prompt_completion


_CANONICAL = {
    ("answer", False): DataFormat.prompt_completion,
    ("answer", True): DataFormat.messages,
    ("preference", False): DataFormat.preference,
    ("preference", True): DataFormat.preference_messages,
}
_KEYS = {
    DataFormat.prompt_completion: '{"prompt", "completion"}',
    DataFormat.messages: '{"messages": [{"role", "content"}, ...]}',
    DataFormat.preference: '{"prompt", "chosen", "rejected"}',
    DataFormat.preference_messages: '{"prompt": [...], "chosen": [...], "rejected": [...]}, each of messages',
}


def format_of_keys(row: Mapping[str, Any]) -> DataFormat | None:
    """Returns the format that a row's keys, and whether they hold lists, point to; None if they point to none.

    The row may still be wrong in that format.
    """
    if "messages" in row:
        return DataFormat.messages
    if row.keys() & {"chosen", "rejected"}:
        lists = any(isinstance(row.get(key), list) for key in ("prompt", "chosen", "rejected"))
        return DataFormat.preference_messages if lists else DataFormat.preference
    return DataFormat.prompt_completion if {"prompt", "completion"} <= row.keys() else None


class Duplicates(StrEnum):
    """What to do with a row of train or validation that is also in a later split, or twice in its own."""

    warn = "warn"
    remove = "remove"


class DataConfig(Strict):
    """The files of the rows, and how they are used."""

    train: str
    """JSONL file of the training rows."""
    validation: str | StrictFloat = 0.1
    """JSONL file, or the fraction of `train` to split off; trials are compared on it."""
    test: str | None = None
    """JSONL file that no trial ever sees; base and winner are compared on it."""
    format: DataFormat = DataFormat.prompt_completion
    """`prompt_completion`: {"prompt", "completion"}; `messages`: {"messages": [{"role", "content"}, ...]};
    `preference`: {"prompt", "chosen", "rejected"}; `preference_messages`: the same three, each a list of messages."""
    max_length: StrictInt = Field(1024, ge=8, le=1_048_576)
    """Most tokens of a row; a longer row is truncated on the left of its prompt, never in its answer."""
    max_train_rows: StrictInt | None = Field(None, ge=1)
    """Use this many rows of `train`, sampled by the experiment's seed."""
    max_validation_rows: StrictInt | None = Field(None, ge=1)
    """Use this many rows of `validation`, sampled by the experiment's seed."""
    max_test_rows: StrictInt | None = Field(None, ge=1)
    """Use this many rows of `test`, sampled by the experiment's seed."""
    duplicates: Duplicates = Duplicates.warn
    """`warn` counts rows that repeat or leak between splits; `remove` removes them from the earlier split."""

    @model_validator(mode="after")
    def _fraction(self) -> DataConfig:
        if isinstance(self.validation, float) and not 0.0 < self.validation < 1.0:
            raise ValueError(f"validation: fraction {self.validation} must lie between 0 and 1, or be a file")
        return self
