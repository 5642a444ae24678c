"""What an objective's encoder makes of a row: the columns that its trainer reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from raytune_ft.data.bad_rows import BadRows
from raytune_ft.data.rows import Row
from raytune_ft.data.tokens.template import ChatTemplate


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """One row as a model is trained on it.

    Attributes:
        columns: Column -> token ids, or labels with -100 where there is no loss.
        tokens: How many tokens a forward pass of the row has.
        cut: Whether its prompt was truncated on the left.
    """

    columns: Mapping[str, list[int]]
    tokens: int
    cut: bool


class Encoder(Protocol):
    """Encodes the rows of one experiment; `prepare` is given one."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the prepared splits; each holds one list of int32 a row."""

    @property
    def template(self) -> ChatTemplate | None:
        """The template that renders conversations; None for plain text."""

    def rows(self, rows: Sequence[Row], bad_rows: BadRows) -> Iterator[tuple[Row, EncodedRow | None]]:
        """Yields each row with its columns, or None if nothing of it would be trained.

        Rows that can't be rendered go to `bad_rows` instead.
        """
