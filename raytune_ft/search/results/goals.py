"""Several goals: what a report says of each, which trials nothing beats in all of them, and in what order they come."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.goals import BestRule, Metric
from raytune_ft.metrics.named import sign
from raytune_ft.metrics.report import value_in

Values = Mapping[str, float]
"""Goal's name -> value."""

_ROUNDING = 1e-9  # relative: 0.303 is within 1 % of 0.3, whatever floats make of it


def goals_of(experiment: Experiment) -> tuple[Metric, ...]:
    """What counts in the experiment, the metric that the scheduler looks at first."""
    return experiment.goals


def values_in(report: Mapping[str, Any], goals: Sequence[Metric]) -> dict[str, float]:
    """The goals that a report has a finite value of."""
    found = {goal.name: value_in(report, goal.name) for goal in goals}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def on_front(trials: Sequence[Values], goals: Sequence[Metric]) -> list[bool]:
    """Whether no other trial is at least as good in every goal and better in one; a missing value is the worst."""
    costs = [_costs(values, goals) for values in trials]
    front: list[tuple[float, ...]] = []
    for cost in sorted(set(costs)):  # what beats a trial stands before it
        if not any(all(its <= own for its, own in zip(other, cost, strict=True)) for other in front):
            front.append(cost)
    members = set(front)
    return [cost in members for cost in costs]


def ranking(trials: Sequence[Values], goals: Sequence[Metric], best: str | None) -> list[int]:
    """Positions of the trials, the winner first, then the rest of the front, then the others; ties in their order.

    Args:
        trials: The values of each.
        goals: By their order, front and others are sorted.
        best: The rule that picks the winner, as `search.best` has it; without one it is the best by the goals' order.
    """
    costs, front = [_costs(values, goals) for values in trials], on_front(trials, goals)
    order = sorted(range(len(trials)), key=lambda at: (not front[at], costs[at]))
    if best is None or not order:
        return order
    winner = _winner(costs, goals, BestRule.parse(best))
    return [winner, *(at for at in order if at != winner)]


def rule_words(goals: Sequence[Metric], best: str | None) -> str:
    """By what the winner wins: `the least eval_loss`; `eval_loss within 1 % of the best, then the least tokens`."""
    if best is None:
        return _most(goals[0])
    rule = BestRule.parse(best)
    others = [_most(goal) for goal in goals if goal.name != rule.metric]
    return ", then ".join([f"{rule.metric} within {100 * rule.within:g} % of the best", *others])


def _most(goal: Metric) -> str:
    return f"the {'least' if goal.mode == 'min' else 'greatest'} {goal.name}"


def _winner(costs: Sequence[tuple[float, ...]], goals: Sequence[Metric], rule: BestRule) -> int:
    names: list[str] = [goal.name for goal in goals]
    of = names.index(rule.metric)
    least = min(cost[of] for cost in costs)
    limit = least + (rule.within + _ROUNDING) * abs(least) if math.isfinite(least) else least
    near = [at for at, cost in enumerate(costs) if cost[of] <= limit]
    # The rule's own metric decides last, so that nothing beats the winner in all goals.
    return min(near, key=lambda at: (costs[at][:of] + costs[at][of + 1 :], costs[at][of]))


def _costs(values: Values, goals: Sequence[Metric]) -> tuple[float, ...]:
    """By goal, less being better."""
    return tuple(math.inf if (value := values.get(goal.name)) is None else sign(goal) * value for goal in goals)
