"""The paired bootstrap: how sure the difference between two systems on the same rows is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raytune_ft.evaluation.metrics import metric_values

if TYPE_CHECKING:
    from raytune_ft.evaluation.scoring import Scores


@dataclass(frozen=True)
class Difference:
    """Second system minus first, with the percentile interval of its bootstrap distribution."""

    mean: float
    low: float
    high: float
    level: float


def paired_bootstrap(
    metric: str, first: Scores, second: Scores, *, resamples: int, level: float, seed: int
) -> Difference:
    """Difference of `metric`, each resample drawing the same rows for both (Efron and Tibshirani 1993, ch. 13)."""
    import numpy as np

    rows = len(first.loss)
    whole = np.arange(rows)[None, :]
    drawn = np.random.default_rng(seed).integers(0, rows, size=(resamples, rows))
    observed = metric_values(metric, second, whole)[0] - metric_values(metric, first, whole)[0]
    spread = metric_values(metric, second, drawn) - metric_values(metric, first, drawn)
    low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(observed), float(low), float(high), level)
