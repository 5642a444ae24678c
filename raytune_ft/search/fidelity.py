"""What a trial that was stopped early is worth beside trials that ran to their end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Curve = Mapping[int, float]
"""Step -> cost: less is better."""


@dataclass(frozen=True)
class Whole:
    """A trial that ran to its end.

    Attributes:
        curve: Its reports.
        end: What it came to.
    """

    curve: Curve
    end: float


def at_the_end(curve: Curve, whole: Sequence[Whole]) -> float:
    """The cost that a stopped trial would have come to, at best.

    Its last cost would have moved as the median whole trial's did from that step on. But it was stopped for being
    behind, and what is behind mostly stays so: it is not taken for better than any whole trial that was ahead of it at
    the same step. Without whole trials its last cost stands: all are then compared where they were stopped.

    Args:
        curve: The stopped trial's; not empty.
        whole: What to compare with.
    """
    step = max(curve)
    peers = [(_at(each.curve, step), each.end) for each in whole]
    known = [(then, end) for then, end in peers if then is not None]
    if not known:
        return curve[step]
    moved = curve[step] + median(end - then for then, end in known)
    return max([moved, *(end for then, end in known if then <= curve[step])])


def worse_than(costs: Sequence[float]) -> float:
    """A cost that stands out from `costs` as bad without dwarfing what lies between them: half their spread above."""
    if not costs:
        return 0.0
    worst, spread = max(costs), max(costs) - min(costs)
    return worst + (spread / 2 or max(abs(worst) / 10, 1e-3))


def _at(curve: Curve, step: int) -> float | None:
    """The cost at `step`, or the last one before it."""
    reached = [each for each in curve if each <= step and math.isfinite(curve[each])]
    return curve[max(reached)] if reached else None
