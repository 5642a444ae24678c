"""One model's scores of rows: named arrays with one value a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Scores:
    """One model's scores on n rows.

    Attributes:
        loss: Mean negative log-likelihood per token of the wanted answer in nats, float64, [n].
        tokens: Number of tokens of that answer, int64, [n].
        choice: Index of the chosen label, int64, [n]; None without labels.
        expected: Index of the true label, int64, [n]; None without labels.
        more: What else the objective scores, by name, float64, [n] each.
    """

    loss: np.ndarray
    tokens: np.ndarray
    choice: np.ndarray | None = None
    expected: np.ndarray | None = None
    more: Mapping[str, np.ndarray] = field(default_factory=dict)
