"""Detects when a trial has to end: a loss that is not finite, a loss that diverges, or no memory left."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raytune_ft.metrics.named import EVAL_LOSS

_OUT_OF_MEMORY = ("DefaultCPUAllocator: can't allocate", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")


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
        base_loss: The base's loss on the same rows; None where nobody could measure it.
        metric: Name of that loss.
    """

    factor: float
    base_loss: float | None = None
    metric: str = EVAL_LOSS

    def train_loss(self, step: int, loss: float) -> str | None:
        """Returns the reason to stop, or None."""
        if not math.isfinite(loss):
            return f"training loss is {loss} at step {step}; lower train.learning_rate"
        return None

    def evaluated(self, step: int, loss: float) -> str | None:
        """The reason to stop, or None."""
        if not math.isfinite(loss):
            return f"{self.metric} is {loss} at step {step}; lower train.learning_rate"
        if self.base_loss is not None and loss > self.factor * self.base_loss:
            return (
                f"{self.metric} {loss:.3g} at step {step} is over {self.factor:g} times the base's own "
                f"{self.base_loss:.3g}; lower train.learning_rate"
            )
        return None


def out_of_memory_reason(error: BaseException) -> str | None:
    """Returns the reason with advice on what to lower if `error` means that memory ran out; None for other errors."""
    text = str(error)
    names = {cls.__name__ for cls in type(error).__mro__}
    allocators = isinstance(error, MemoryError) or "OutOfMemoryError" in names
    if allocators or any(message in text for message in _OUT_OF_MEMORY):
        first = text.splitlines()[0] if text else type(error).__name__
        return (
            f"{first[:160]}; lower train.per_device_train_batch_size or data.max_length, or set gradient_checkpointing"
        )
    return None
