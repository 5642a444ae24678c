"""Collects the errors of single lines, so that one error can show many of them."""

from __future__ import annotations

from pathlib import Path

from raytune_ft.errors import InputError

SHOWN = 10


class BadRow(Exception):
    """One line of a data file is wrong; becomes part of an InputError.

    Args:
        what: What is wrong, with the value.
        remedy: What to do about it.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what, self.remedy = what, remedy
        super().__init__(what, remedy)


class BadRows:
    """The bad lines of one file: the first ten in full, the others as a count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shown: list[tuple[str, str, str]] = []
        self.count = 0

    def add(self, line: int, problem: BadRow) -> None:
        self.count += 1
        if len(self._shown) < SHOWN:
            self._shown.append((f"{self._path}:{line}", problem.what, problem.remedy))

    def lines(self) -> list[InputError]:
        """Returns one error for each line that is shown; the last one counts the rest."""
        errors = [InputError(*shown) for shown in self._shown]
        hidden = self.count - len(self._shown)
        if hidden:
            errors.append(InputError(str(self._path), f"and {hidden} more bad line{'s' if hidden > 1 else ''}"))
        return errors


def raise_bad_rows(files: list[BadRows]) -> None:
    """Raises one InputError for all bad lines of all files, if there are any."""
    errors = [error for file in files for error in file.lines()]
    if errors:
        first = errors[0]
        raise InputError(first.where, first.what, first.remedy, tuple(str(error) for error in errors[1:]))
