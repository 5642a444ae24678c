"""What a portfolio says to a data set that it was not built from."""

from __future__ import annotations

from functools import cache
from typing import Any

from quality.curves import BATCH, RANK, RATE, Curves, load, names
from raytune_ft.search.earlier_studies.coverage import Axis, TrialRegret, cover, estimate, nearness, regrets

KEYS = (RATE, RANK, BATCH)
SIZE = 4


@cache
def elsewhere(name: str) -> list[dict[str, Any]]:
    """The first configurations of a portfolio built, as `raytune-ft portfolio build` does, from all other data sets.

    Raises:
        ValueError: There is no other one.
    """
    others = [load(each) for each in names() if each != name]
    if not others:
        raise ValueError(f"{name} is the only data set that was recorded; record another one")
    return build(others)


def build(sets: list[Curves]) -> list[dict[str, Any]]:
    """The first configurations of a portfolio of these data sets."""
    datasets = [_points(each) for each in sets]
    candidates = [curve.parameters for each in sets for curve in each.curves if curve.outcome == "completed"]
    axes = {key: Axis.over([each[key] for each in candidates], linear=False) for key in KEYS}
    table = [[estimate(each, points, axes) for points in datasets] for each in candidates]
    chosen = cover(table, SIZE, lambda one, other: nearness(candidates[one], candidates[other], axes))
    return [candidates[choice.candidate] for choice in chosen]


def _points(curves: Curves) -> list[TrialRegret]:
    values = [curve.best if curve.outcome == "completed" else None for curve in curves.curves]
    return [TrialRegret(curve.parameters, regret) for curve, regret in zip(curves.curves, regrets(values), strict=True)]
