"""The gates that read evaluation.json: gain over the base, and retention of general text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_ft.config.promotion import RetentionGate
from raytune_ft.errors import IntegrityError
from raytune_ft.metrics.named import LOSS, deciding_metric, less_is_better
from raytune_ft.promotion.gates import Verdict


@dataclass(frozen=True)
class Gain:
    """The winner's difference to the base on one metric, with its confidence interval."""

    metric: str
    mean: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the whole interval is on the better side of zero."""
        return self.high < 0 if less_is_better(self.metric) else self.low > 0

    def __str__(self) -> str:
        return f"{self.metric} {self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def rows_of(path: Path, evaluation: Mapping[str, Any]) -> int:
    """Returns the number of test rows of the evaluation.

    Raises:
        IntegrityError: The evaluation doesn't say it.
    """
    rows = evaluation.get("rows")
    if type(rows) is not int:
        raise IntegrityError(f"{path}: has no number of rows; run evaluate again")
    return rows


def gain_of(path: Path, evaluation: Mapping[str, Any]) -> Gain:
    """Returns the difference to the base on the deciding metric.

    Raises:
        IntegrityError: The evaluation has no difference.
    """
    differences: dict[str, dict[str, float]] = evaluation.get("difference") or {}
    metric = deciding_metric(name for name in evaluation.get("metrics", []) if name in differences) or LOSS
    if metric not in differences:
        raise IntegrityError(f"{path}: has no difference of base and winner; run evaluate again")
    found = differences[metric]
    return Gain(metric, float(found["mean"]), float(found["low"]), float(found["high"]))


def judge_gain(gain: Gain, rows: int, min_rows: int) -> Verdict:
    """Judges the gate `gain`: refuses if the interval contains zero, the winner is worse, or there are too few rows."""
    numbers = {"metric": gain.metric, "mean": gain.mean, "low": gain.low, "high": gain.high, "rows": rows}
    if rows < min_rows:
        return Verdict("gain", False, f"{too_few(rows, min_rows)}: {gain}", numbers)
    reason = f"{gain}" if gain.shown else f"no gain over the base is shown: {gain}"
    return Verdict("gain", gain.shown, reason, numbers)


def too_few(rows: int, min_rows: int) -> str:
    """Returns the reason for refusing because of too few test rows."""
    return f"{rows} test rows are too few to judge by, promotion.min_rows asks for {min_rows}"


def judge_retention(path: Path, evaluation: Mapping[str, Any], limit: RetentionGate) -> Verdict:
    """Judges the gate `retention`: refuses if general text has become too unlikely.

    Raises:
        IntegrityError: The evaluation did not measure it.
    """
    found = evaluation.get("retention")
    if not isinstance(found, dict) or not {"base", "winner", "ratio"} <= found.keys():
        raise IntegrityError(f"{path}: has no perplexity of general text; run evaluate again, or --skip retention")
    ratio = float(found["ratio"])
    numbers = {"base": found["base"], "winner": found["winner"], "ratio": ratio, "max_ratio": limit.max_ratio}
    perplexities = f"perplexity of general text {found['winner']:.2f}, the base's {found['base']:.2f}"
    passed = ratio <= limit.max_ratio  # False for NaN too
    sign = "within" if passed else "above"
    return Verdict(
        "retention", passed, f"{perplexities}: {ratio:.3f} times, {sign} the limit {limit.max_ratio:g}", numbers
    )
