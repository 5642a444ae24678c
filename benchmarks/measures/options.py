"""What the command line of a benchmark chose, and what a measure is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@dataclass(frozen=True)
class Options:
    """Of one run of the benchmark.

    Attributes:
        rounds: Rounds of every side that `side_rounds` does not name.
        side_rounds: Side -> its rounds; 0 leaves it out.
        trials: Trials of a sweep.
        requests: Requests of the skewed traffic to many adapters.
        keep: Where to leave what the sides wrote; by default it is removed.
        earlier: What the measure found before, to which its rounds are added.
    """

    rounds: int = 5
    side_rounds: dict[str, int] = field(default_factory=dict)
    trials: int = 8
    requests: int = 500
    keep: Path | None = None
    earlier: dict[str, Any] | None = None

    def rounds_of(self, sides: tuple[str, ...]) -> dict[str, int]:
        """Side -> its rounds."""
        return {side: self.side_rounds.get(side, self.rounds) for side in sides}

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A directory for what the sides of a measure write."""
        if self.keep:
            kept = self.keep.resolve() / name
            kept.mkdir(parents=True, exist_ok=True)
            yield kept
            return
        with TemporaryDirectory(prefix=f"benchmark-{name}-", ignore_cleanup_errors=True) as directory:
            yield Path(directory)


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, what the goal is, what came out, and whether that reaches it."""

    what: str
    goal: str
    measured: str
    reached: bool | None = None


@dataclass(frozen=True)
class Measure:
    """How a part of the table is measured and shown.

    Attributes:
        run: Measures; what it returns goes to the JSON.
        rows: The lines of the table, out of what `run` returned.
        sides: Names that `--rounds SIDE=N` may hold.
        by_default: Whether it runs unless `--only` names others.
        adds: Whether `--add` can put its rounds to those of earlier runs.
    """

    run: Callable[[Options], dict[str, Any]]
    rows: Callable[[dict[str, Any]], list[Row]]
    sides: tuple[str, ...]
    by_default: bool = True
    adds: bool = False
