"""What a trial that was stopped early is worth beside trials that ran to their end."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median

from raytune_ft.config.search.goals import Metric
from raytune_ft.metrics.named import sign
from raytune_ft.search.sampling.scale import Costs

Curve = Mapping[int, float]
"""Step -> cost of the first goal: less is better."""
_GROWING = ("train_seconds", "tokens")


@dataclass(frozen=True)
class Whole:
    """A trial that ran to its end.

    Attributes:
        curve: Step -> value of each report.
        end: What it came to.
    """

    curve: Curve
    end: float


class Peers:
    """The trials of a study that ran to their end, to tell by what stopped ones would have come to."""

    def __init__(self, whole: Sequence[Whole]) -> None:
        self._whole = whole
        self._length = median(max(each.curve, default=0) for each in whole) if whole else 0.0
        self._by_step: dict[tuple[int, int | None], tuple[float, list[float], list[float]] | None] = {}

    def at_the_end(self, curve: Curve, end: int | None = None) -> float:
        """The cost that a stopped trial would have come to, at best.

        Its last cost would have moved as the median whole trial's did from that step on. But it was stopped for being
        behind, and what is behind mostly stays so: it is not taken for better than any whole trial that was ahead of it
        at the same step. Without whole trials its last cost stands: all are then compared where they were stopped.
        Where trials have ends of their own, those that trained on from that step count, up to its own end.

        Args:
            curve: The stopped trial's; not empty.
            end: The step at which it would have ended, where that is its own.
        """
        at = (step := max(curve)), end
        if at not in self._by_step:  # trials are stopped at few steps, and each step takes a look at all whole ones
            self._by_step[at] = self._at(*at)
        if (known := self._by_step[at]) is None:
            return curve[step]
        moved, costs, ends = known
        ahead = bisect_right(costs, curve[step])
        return max(curve[step] + moved, ends[ahead - 1]) if ahead else curve[step] + moved

    def costs_at_the_end(
        self, curve: Curve, last: Mapping[str, float], goals: Sequence[Metric], end: int | None = None
    ) -> Costs | None:
        """The costs of all goals; None where the trial did not report them.

        Args:
            curve: The stopped trial's.
            last: Goal -> value at its last report; the first goal's is the curve's.
            goals: The study's.
            end: The step at which it would have ended, where that is its own.
        """
        if not curve or any(goal.name not in last for goal in goals[1:]):
            return None
        costs, length = [self.at_the_end(curve, end)], end or self._length
        for goal in goals[1:]:
            longer = max(length / max(curve), 1.0) if goal.name in _GROWING and max(curve) else 1.0
            costs.append(sign(goal) * longer * last[goal.name])
        return tuple(costs)

    def _at(self, step: int, end: int | None) -> tuple[float, list[float], list[float]] | None:
        """How the median cost moved from `step` on; the costs then, ascending; and the worst end up to each of them."""
        further = [each for each in self._whole if max(each.curve, default=0) > step]
        known = sorted((then, _end(each, end)) for each in further if (then := _at(each.curve, step)) is not None)
        if not known:
            return None
        moved = median(end - then for then, end in known)
        return moved, [then for then, _ in known], list(accumulate((end for _, end in known), max))


def failed(costs: Sequence[float], step: int) -> float:
    """A cost for what failed after `step`: above all `costs`, by half to all of their spread, so that it stands out
    without dwarfing what lies between them; the less the later it failed, which is the way out where all have failed.
    """
    worst, spread = max(costs, default=0.0), max(costs, default=0.0) - min(costs, default=0.0)
    return worst + (0.5 + 0.5 * violation(step)) * (spread or abs(worst) / 10 or 1e-3)


def violation(step: int) -> float:
    """By how much a trial misses to be feasible that failed after `step`, from 1 down."""
    return 1.0 / (1 + step)


def _end(whole: Whole, end: int | None) -> float:
    """What a whole trial came to until `end`."""
    if end is None or end >= max(whole.curve):
        return whole.end
    return min((cost for step, cost in whole.curve.items() if step <= end), default=whole.end)


def _at(curve: Curve, step: int) -> float | None:
    """The cost at `step`, or the last one before it."""
    reached = [each for each in curve if each <= step and math.isfinite(curve[each])]
    return curve[max(reached)] if reached else None
