"""Detects when a trial has to end: a loss that is not finite, or one that diverges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


def finite(value: float | None) -> float | None:
    """Returns `value`, or None if it is NaN or infinite, which JSON can't express."""
    return value if value is not None and math.isfinite(value) else None


@dataclass
class DivergenceGuard:
    """Watches a trial's losses for divergence; the losses must be equal on all ranks.

    A batch's training loss is only checked for being finite, because its height depends more on the rows than on the
    training.

    Attributes:
        factor: The evaluated loss above this many times the base's own is divergence.
        metric: Name of that loss (the objective's `diverges_by`); None where only a number that is not finite tells.
        base_loss: The base's loss on the same rows; None where nobody could measure it.
    """

    factor: float
    metric: str | None
    base_loss: float | None = None

    def train_loss(self, step: int, loss: float) -> str | None:
        """Returns the reason to stop, or None."""
        if not math.isfinite(loss):
            return f"training loss is {loss} at step {step}; lower train.learning_rate"
        return None

    def evaluated(self, step: int, values: Mapping[str, float]) -> str | None:
        """Returns the reason to stop, or None; `values` are the reported metrics by name."""
        for name, value in values.items():
            if not math.isfinite(value):
                return f"{name} is {value} at step {step}; lower train.learning_rate"
        loss = values.get(self.metric) if self.metric else None
        if loss is not None and self.base_loss is not None and loss > self.factor * self.base_loss:
            return (
                f"{self.metric} {loss:.3g} at step {step} is over {self.factor:g} times the base's own "
                f"{self.base_loss:.3g}; lower train.learning_rate"
            )
        return None
