"""Counts how often a test split was used for a decision; the more often, the likelier is a good result by luck.

There is one ledger file for each split, beside the runs. A split is identified by its content, so that studies with the
same rows share it. A repetition is not counted, because the same weights have the same scores on the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from raytune_ft.data.prepared import TEST_ROWS
from raytune_ft.errors import IntegrityError
from raytune_ft.paths import RunDirectory, read_json, sha256_file, write_json

LEDGERS = ".test_uses"
"""Directory of the ledgers, beside the runs; no run can have this name."""
SCHEMA = 1
_LOCK_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Use:
    """One decision for which the scores of a test split were used.

    Attributes:
        kind: `evaluate` for comparing a winner with the base, `promote` for judging one by the gates.
        run: Name of the run.
        trial: Id of the winner's trial.
        weights_sha256: Hash of the winner's weights.
        against: What it was compared with: `base`, or the alias with its version at the time.
    """

    kind: Literal["evaluate", "promote"]
    run: str
    trial: str
    weights_sha256: str
    against: str


@dataclass(frozen=True)
class Uses:
    """The uses of a split so far.

    Attributes:
        evaluations: Number of winners that were compared with the base.
        promotions: Number of promotions that were judged, whether they passed or not.
        runs: Number of runs that these winners are from.
    """

    evaluations: int
    promotions: int
    runs: int

    @property
    def decisions(self) -> int:
        """Number of all decisions."""
        return self.evaluations + self.promotions

    def luck(self, level: float) -> float:
        """Returns the probability that one of so many winners passes by luck if none is better than the base.

        It is an upper bound, because winners of one study are similar and tend to pass or fail together.

        Args:
            level: Confidence level of the interval.
        """
        return 1.0 - (1.0 - (1.0 - level) / 2.0) ** self.evaluations

    def words(self, level: float) -> str:
        """Returns one or two sentences for the user."""
        compared = f"{_count(self.evaluations, 'winner')} compared with the base"
        judged = f"{_count(self.promotions, 'promotion')} judged"
        told = f"These rows were used for {_count(self.decisions, 'decision')} so far, in {_count(self.runs, 'run')}: "
        told += f"{compared}, {judged}."
        if self.evaluations > 1:
            told += f" An interval holds for one comparison: of {self.evaluations} winners no better than the base, "
            told += f"one passes by luck in up to {100 * self.luck(level):.0f} % of the cases."
        return told


def note_use(run: RunDirectory, use: Use) -> Uses | None:
    """Records a decision unless it is there already, and returns all uses; None if the run has no test split.

    Raises:
        IntegrityError: The ledger is broken, or can't be written.
    """
    path = _ledger(run)
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=_LOCK_TIMEOUT_S):
            found = _read(path)
            if asdict(use) not in [{key: each.get(key) for key in asdict(use)} for each in found]:
                found.append({**asdict(use), "time": datetime.now(UTC).isoformat(timespec="seconds")})
                write_json(path, {"schema": SCHEMA, "split_sha256": path.stem, "uses": found})
    except (OSError, Timeout) as error:
        what = getattr(error, "strerror", None) or error
        remedy = "each use of a test split is counted there; make it writable"
        raise IntegrityError(f"{path}: can't be written ({what}); {remedy}") from None
    return _counted(found)


def read_uses(run: RunDirectory) -> Uses | None:
    """Returns the uses of the run's test split in all runs beside it; None if nothing is known.

    Raises:
        IntegrityError: The ledger is broken.
    """
    path = _ledger(run)
    return _counted(_read(path)) if path is not None and path.is_file() else None


def _ledger(run: RunDirectory) -> Path | None:
    rows = run.data / TEST_ROWS
    return run.root.parent / LEDGERS / f"{sha256_file(rows)}.json" if rows.is_file() else None


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    value = read_json(path)
    uses = value.get("uses") if isinstance(value, dict) else None
    if not isinstance(uses, list) or not all(map(_is_use, uses)):
        raise IntegrityError(f"{path}: is no ledger of a test split's uses; put it back, or remove it to count anew")
    return uses


def _is_use(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return False
    return value.get("run") is None or isinstance(value["run"], str)


def _counted(uses: Sequence[Mapping[str, Any]]) -> Uses:
    kinds = [each["kind"] for each in uses]
    return Uses(kinds.count("evaluate"), kinds.count("promote"), len({each.get("run") for each in uses}))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
