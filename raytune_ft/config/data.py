"""`data:`: what is trained on, how it is split and how long a row may be."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, StrictFloat, StrictInt, model_validator

from raytune_ft.config.model import Strict


class DataFormat(StrEnum):
    """How a row is written."""

    messages = "messages"
    prompt_completion = "prompt_completion"


class Duplicates(StrEnum):
    """What happens to a row of train or validation that stands in a later split, or twice in its own."""

    warn = "warn"
    remove = "remove"


class DataConfig(Strict):
    """Where the rows come from."""

    train: str
    """JSONL file of the training rows."""
    validation: str | StrictFloat = 0.1
    """JSONL file, or the fraction of `train` that is cut off; trials are compared on it."""
    test: str | None = None
    """JSONL file that no trial ever sees; the winner is proved on it."""
    format: DataFormat = DataFormat.prompt_completion
    """`prompt_completion`: {"prompt", "completion"}; `messages`: {"messages": [{"role", "content"}, ...]}."""
    max_length: StrictInt = Field(1024, ge=8, le=1_048_576)
    """Tokens in a row at most; a longer row loses tokens from the left of its prompt, never from its answer."""
    max_train_rows: StrictInt | None = Field(None, ge=1)
    """Take this many rows of `train`, drawn by the experiment's seed."""
    max_validation_rows: StrictInt | None = Field(None, ge=1)
    """Take this many rows of `validation`, drawn by the experiment's seed."""
    max_test_rows: StrictInt | None = Field(None, ge=1)
    """Take this many rows of `test`, drawn by the experiment's seed."""
    duplicates: Duplicates = Duplicates.warn
    """`warn` counts rows that repeat or leak between splits; `remove` takes them out of the earlier split."""

    @model_validator(mode="after")
    def _fraction(self) -> DataConfig:
        if isinstance(self.validation, float) and not 0.0 < self.validation < 1.0:
            raise ValueError(f"validation: fraction {self.validation} must lie between 0 and 1, or be a file")
        return self
