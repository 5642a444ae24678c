"""Loss scaling of a trial in float16 (Micikevicius et al. 2018, arXiv 1710.03740), as in PyTorch's GradScaler.

Most gradients of activations are too small for float16. So the loss is multiplied by a factor before the backward pass,
and the float32 gradient is divided by it afterwards. A step whose gradient overflowed is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass

BEGIN = 2.0**13
"""Initial factor, an eighth of GradScaler's, with which a short trial would lose its first steps to overflows."""
GROW_AFTER = 200
"""Steps in a row without an overflow after which the factor doubles; GradScaler waits for 2,000."""
LEAST = 1.0
"""Smallest factor; a gradient that overflows even with it has another cause than the scale."""


@dataclass
class LossScale:
    """The factor of a trial's loss; it is always 1 for types that need no scaling.

    Attributes:
        factor: Factor of the loss.
        good_steps: Steps without an overflow since the factor last changed.
        fixed: Whether the factor never changes.
    """

    factor: float = 1.0
    good_steps: int = 0
    fixed: bool = True

    @staticmethod
    def of(dtype: str) -> LossScale:
        """Returns the initial scale of a trial; `dtype` is the base's number type."""
        return LossScale(BEGIN, fixed=False) if dtype == "float16" else LossScale()

    def overflowed(self) -> bool:
        """Halves the factor after a gradient that was not finite; returns False if the scale can't be the reason."""
        if self.fixed or self.factor <= LEAST:
            return False
        self.factor, self.good_steps = max(LEAST, self.factor / 2), 0
        return True

    def fitted(self) -> None:
        """Counts a step with a finite gradient, and doubles the factor after `GROW_AFTER` of them."""
        if self.fixed:
            return
        self.good_steps += 1
        if self.good_steps >= GROW_AFTER:
            self.factor, self.good_steps = self.factor * 2, 0

    def state(self) -> dict[str, float]:
        """Returns the state for a checkpoint."""
        return {"factor": self.factor, "good_steps": self.good_steps}

    def load_state(self, state: dict[str, float] | None) -> None:
        """Restores a `state()`, unless the checkpoint has none or the type needs no scaling."""
        if state is not None and not self.fixed:
            self.factor, self.good_steps = float(state["factor"]), int(state["good_steps"])
