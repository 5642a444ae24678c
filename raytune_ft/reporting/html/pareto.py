"""Draws two goals against each other: every trial, with the Pareto front marked and the winner ringed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from raytune_ft.reporting.html.plots import ACCENT, NEUTRAL, Figure, axis, escape, finite, hover, wants_log
from raytune_ft.reporting.records import Goal, Leaderboard
from raytune_ft.search.results.rows import LeaderboardRow

MANY_ON_FRONT = 12
"""From this many trials on the front on, they are named only under the pointer."""


def pareto(board: Leaderboard) -> Figure | None:
    """Returns the figure, first goal over second; None where there is one goal, or no trial has both values."""
    if not board.further:
        return None
    first, second = board.metrics[:2]
    both = (first.name, second.name)
    rows = [row for row in board.rows if all(finite(row.values.get(name)) is not None for name in both)]
    if not rows:
        return None
    front = sorted((row for row in rows if row.front), key=lambda row: row.values[second.name])
    beaten = [row for row in rows if not row.front]
    named = len(front) < MANY_ON_FRONT
    data = [_points(beaten, first.name, second.name, "beaten", NEUTRAL, 8)] if beaten else []
    if len(board.metrics) == 2:  # with more goals the front is not a line
        steps = _points(front, first.name, second.name, "front", ACCENT, 0)
        shape = "hv" if second.mode == "min" else "vh"
        line = {"mode": "lines", "line": {"shape": shape, "color": ACCENT, "width": 1.5, "dash": "dot"}}
        data.append(steps | line | {"showlegend": False, "hoverinfo": "skip", "hovertemplate": None})
    data.append(_points(front, first.name, second.name, "front", ACCENT, 11))
    if named:
        data[-1] |= {
            "mode": "markers+text",
            "text": [escape(row.trial) for row in front],
            "textposition": "top right",
            "cliponaxis": False,
        }
    winner = [row for row in rows if row.rank == 1]
    ring = _points(winner, first.name, second.name, "winner", ACCENT, 22)
    ring["marker"] |= {"symbol": "circle-open", "line": {"width": 2.5}}
    data.append(ring | {"hoverinfo": "skip", "hovertemplate": None})
    return {
        "data": data,
        "layout": {
            "xaxis": _axis(second, [row.values[second.name] for row in rows]),
            "yaxis": _axis(first, [row.values[first.name] for row in rows]),
        },
    }


def _axis(goal: Goal, values: Sequence[float]) -> Figure:
    plain = axis(f"{goal.name}, {'less' if goal.mode == 'min' else 'more'} is better", values)
    if not wants_log(values):
        return plain
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]  # plotly's own labels differ in size
    return plain | {"tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _points(rows: Sequence[LeaderboardRow], y: str, x: str, name: str, colour: str, size: int) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [row.values[x] for row in rows],
        "y": [row.values[y] for row in rows],
        "customdata": [hover(row) for row in rows],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {"color": colour, "size": size, "opacity": 1 if colour == ACCENT else 0.6},
    }
