"""The recorded learning curves, and the one that a configuration gets."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from raytune_ft.paths import read_json

DIRECTORY = Path(__file__).parent / "curves"
SIZE = 60
"""Configurations of the grid."""
RATE, RANK, BATCH = "train.learning_rate", "method.r", "train.per_device_train_batch_size"


@dataclass(frozen=True)
class Report:
    """One evaluation of a trial."""

    step: int
    tokens: int
    eval_loss: float | None
    seconds: float


@dataclass(frozen=True)
class Curve:
    """One configuration, trained to the end; a trial that diverged has fewer reports."""

    parameters: dict[str, Any]
    outcome: str
    reports: tuple[Report, ...]

    @property
    def best(self) -> float:
        """The least loss that it reported."""
        return min((each.eval_loss for each in self.reports if each.eval_loss is not None), default=math.inf)


@dataclass(frozen=True)
class Curves:
    """All configurations of a grid on one data set, evaluated on `validation_rows` rows."""

    name: str
    curves: tuple[Curve, ...]
    validation_rows: int = 0

    @property
    def whole(self) -> bool:
        """Whether all of the grid was recorded; searches are replayed over nothing less."""
        return len(self.curves) == SIZE

    @cached_property
    def best(self) -> float:
        """The least loss of the grid."""
        return min(curve.best for curve in self.curves)

    @cached_property
    def full_tokens(self) -> float:
        """Of a trial that is not stopped, in the mean."""
        return statistics.mean(curve.reports[-1].tokens for curve in self.curves if curve.outcome == "completed")

    def of(self, parameters: dict[str, Any]) -> Curve:
        """The curve of the grid's nearest configuration: rank and batch size as asked, the rate nearest in its log."""
        same = [each for each in self.curves if all(each.parameters[key] == parameters[key] for key in (RANK, BATCH))]
        return min(same, key=lambda each: abs(math.log(each.parameters[RATE] / parameters[RATE])))


def load(name: str) -> Curves:
    """Reads `curves/<name>.json`."""
    value = read_json(DIRECTORY / f"{name}.json")
    return Curves(
        name,
        tuple(
            Curve(each["parameters"], each["outcome"], tuple(Report(*report) for report in each["reports"]))
            for each in value["trials"]
        ),
        value["validation_rows"],
    )


def names() -> list[str]:
    """The data sets of which something was recorded."""
    return sorted(path.stem for path in DIRECTORY.glob("*.json"))
