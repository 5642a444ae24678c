"""Estimates the final cost of trials that were stopped early, from the trials that ran to their end."""

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
"""The cost of the first goal by optimizer step; less is better."""
_GROWING = ("train_seconds", "tokens")


@dataclass(frozen=True)
class Whole:
    """A trial that ran to its end.

    Attributes:
        curve: Step -> cost of each report.
        end: The cost that the trial counts with.
    """

    curve: Curve
    end: float


class Peers:
    """The trials of a study that ran to their end, from which it estimates the final costs of stopped ones."""

    def __init__(self, whole: Sequence[Whole]) -> None:
        self._whole = whole
        self._length = median(max(each.curve, default=0) for each in whole) if whole else 0.0
        self._by_step: dict[tuple[int, int | None], tuple[float, list[float], list[float]] | None] = {}

    def at_the_end(self, curve: Curve, end: int | None = None) -> float:
        """Returns the cost that a stopped trial would have ended with, at best.

        Its last cost is assumed to move on as the median whole trial's did from that step on. But it was stopped for
        being behind, and a trial that is behind mostly stays so: it is not taken for better than any whole trial that
        was ahead of it at the same step. Without whole trials its last cost stands, so that all are compared where they
        were stopped. Where each trial has a last step of its own, only whole trials that trained on from that step
        count, up to the stopped trial's own last step.

        Args:
            curve: The stopped trial's curve; not empty.
            end: The last step that it was to reach, where trials have one of their own; else None.
        """
        at = (step := max(curve)), end
        if at not in self._by_step:  # trials stop at few different steps, and each look goes through all whole trials
            self._by_step[at] = self._at(*at)
        if (known := self._by_step[at]) is None:
            return curve[step]
        moved, costs, ends = known
        ahead = bisect_right(costs, curve[step])
        return max(curve[step] + moved, ends[ahead - 1]) if ahead else curve[step] + moved

    def costs_at_the_end(
        self, curve: Curve, last: Mapping[str, float], goals: Sequence[Metric], end: int | None = None
    ) -> Costs | None:
        """Returns the costs that a stopped trial would have ended with in all goals; None where it did not report them.

        Args:
            curve: The stopped trial's curve of the first goal.
            last: Goal -> value at its last report; the first goal's value is taken from the curve.
            goals: The study's goals.
            end: The last step that it was to reach, where trials have one of their own; else None.
        """
        if not curve or any(goal.name not in last for goal in goals[1:]):
            return None
        costs, length = [self.at_the_end(curve, end)], end or self._length
        for goal in goals[1:]:
            longer = max(length / max(curve), 1.0) if goal.name in _GROWING and max(curve) else 1.0
            costs.append(sign(goal) * longer * last[goal.name])
        return tuple(costs)

    def _at(self, step: int, end: int | None) -> tuple[float, list[float], list[float]] | None:
        """Returns the cost's median move after `step`, the sorted costs at `step`, and the worst end up to each."""
        further = [each for each in self._whole if max(each.curve, default=0) > step]
        known = sorted((then, _end(each, end)) for each in further if (then := _at(each.curve, step)) is not None)
        if not known:
            return None
        moved = median(end - then for then, end in known)
        return moved, [then for then, _ in known], list(accumulate((end for _, end in known), max))


def failed(costs: Sequence[float], step: int) -> float:
    """Returns a cost for a trial that failed after `step`: above all `costs`, by half to all of their spread.

    So it stands out without dwarfing the differences between them. It is lower the later the trial failed, which leads
    a sampler out of a region where all trials fail.
    """
    worst, spread = max(costs, default=0.0), max(costs, default=0.0) - min(costs, default=0.0)
    return worst + (0.5 + 0.5 * violation(step)) * (spread or abs(worst) / 10 or 1e-3)


def violation(step: int) -> float:
    """Returns by how much a trial that failed after `step` violates feasibility: 1 at step 0, less at later steps."""
    return 1.0 / (1 + step)


def _end(whole: Whole, end: int | None) -> float:
    """Returns the cost that a whole trial counts with; its least cost up to step `end`, if it trained further."""
    if end is None or end >= max(whole.curve):
        return whole.end
    return min((cost for step, cost in whole.curve.items() if step <= end), default=whole.end)


def _at(curve: Curve, step: int) -> float | None:
    """Returns the cost at `step`, or the last one before it; None where there is none."""
    reached = [each for each in curve if each <= step and math.isfinite(curve[each])]
    return curve[max(reached)] if reached else None
