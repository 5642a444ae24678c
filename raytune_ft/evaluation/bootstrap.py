"""The paired bootstrap: how sure the difference between two systems on the same rows is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raytune_ft.evaluation.metrics import metric_values

if TYPE_CHECKING:
    import numpy as np

    from raytune_ft.evaluation.scoring import Scores

DRAWN_AT_ONCE = 2_000_000  # row indices, 16 MB


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
    draw = np.random.default_rng(seed)
    at_once = max(1, DRAWN_AT_ONCE // rows)

    def difference(samples: np.ndarray) -> np.ndarray:
        return np.asarray(metric_values(metric, second, samples) - metric_values(metric, first, samples))

    observed = difference(np.arange(rows)[None, :])[0]
    sizes = (min(at_once, resamples - done) for done in range(0, resamples, at_once))
    spread = np.concatenate([difference(draw.integers(0, rows, size=(size, rows))) for size in sizes])
    low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(observed), float(low), float(high), level)
