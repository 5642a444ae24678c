"""Loss scaling of a trial in float16 (Micikevicius et al. 2018, arXiv 1710.03740), as PyTorch's GradScaler does it.

Gradients of activations are mostly smaller than float16 can tell from zero, so the loss is multiplied before the
backward pass, and the gradient, which is float32, divided after it. A step whose gradient overflowed is not taken.
"""

from __future__ import annotations

from dataclasses import dataclass

BEGIN = 2.0**13
"""An eighth of GradScaler's: a short trial can't afford the first steps, which its would lose."""
GROW_AFTER = 200
"""Steps in a row without an overflow, after which the factor doubles; GradScaler waits for 2,000."""
LEAST = 1.0
"""A gradient that overflows even so is no matter of scale."""


@dataclass
class LossScale:
    """The factor of a trial's loss; it is 1 and stays so where the type needs none.

    Attributes:
        factor: What the loss is multiplied by.
        good_steps: Since it changed.
        fixed: Whether it never changes.
    """

    factor: float = 1.0
    good_steps: int = 0
    fixed: bool = True

    @staticmethod
    def of(dtype: str) -> LossScale:
        """A trial's at its beginning; `dtype` is the base's number type."""
        return LossScale(BEGIN, fixed=False) if dtype == "float16" else LossScale()

    def overflowed(self) -> bool:
        """A gradient was not finite: halves the factor. Returns False where that can't be the reason."""
        if self.fixed or self.factor <= LEAST:
            return False
        self.factor, self.good_steps = max(LEAST, self.factor / 2), 0
        return True

    def fitted(self) -> None:
        """A gradient was finite."""
        if self.fixed:
            return
        self.good_steps += 1
        if self.good_steps >= GROW_AFTER:
            self.factor, self.good_steps = self.factor * 2, 0

    def state(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"factor": self.factor, "good_steps": self.good_steps}

    def load_state(self, state: dict[str, float] | None) -> None:
        """Takes a `state()` over, unless the checkpoint has none or the type needs no scaling."""
        if state is not None and not self.fixed:
            self.factor, self.good_steps = float(state["factor"]), int(state["good_steps"])
