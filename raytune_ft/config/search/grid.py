"""Lists the values and configurations of a grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_ft.config.search.search import Parameter, SearchSpace

MOST = 10_000
"""Most combinations of a grid; with more, another algorithm is better."""


def axis(parameter: Parameter, points: int) -> list[Any]:
    """Returns the values of a dimension on the grid: all of a choice, or `points` of a range including both ends."""
    if parameter.choice is not None:
        return list({repr(value): value for value in parameter.choice}.values())
    low, high = parameter.extremes()
    steps = [0.5] if points == 1 else [i / (points - 1) for i in range(points)]
    if parameter.randint:
        return list(dict.fromkeys(round(low + (high - low) * step) for step in steps))
    return list(dict.fromkeys(parameter.at(step) for step in steps))


def lattice(space: SearchSpace, points: int, defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns every configuration of the grid once, as key path -> value of the settings whose conditions hold.

    Args:
        space: The search space.
        points: Number of values of each range.
        defaults: The experiment's values, for conditions on settings that are not searched.

    Returns:
        All configurations; if there are more than `MOST`, only some, but more than `MOST`.
    """
    configurations: list[dict[str, Any]] = [{}]
    for key in space.in_order():
        values = axis(space.parameters[key], points)
        longer: list[dict[str, Any]] = []
        for chosen in configurations:
            searched = space.applies(key, chosen, defaults)
            longer += [{**chosen, key: value} for value in values] if searched else [chosen]
            if len(longer) > MOST:  # further settings can't make them fewer
                break
        configurations = longer
    return configurations
