"""Draws parallel coordinates: a line for each trial across the searched parameters, coloured by its value.

It is made from ordinary lines and not with plotly's own `parcoords`, which needs WebGL and can't be read on a phone.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytune_ft.reporting.html.plots import ACCENT, MANY_TRIALS, NEUTRAL, Figure
from raytune_ft.reporting.records import Leaderboard
from raytune_ft.reporting.wording import measure, number, parameter_names
from raytune_ft.search.results.rows import LeaderboardRow

_GOOD, _BAD = (13, 148, 136), (234, 148, 40)


@dataclass(frozen=True)
class _Dimension:
    name: str
    place: Callable[[Any], float]
    """Returns a value's height, from 0 (bottom) to 1 (top)."""
    ticks: Sequence[tuple[float, str]]


def parallel_coordinates(board: Leaderboard) -> Figure | None:
    """Returns the figure; None where fewer than two trials have a value."""
    rows = [row for row in board.rows if row.value is not None and math.isfinite(row.value)]
    if len(rows) < 2:
        return None
    dimensions = {
        key: _dimension(name, [row.parameters[key] for row in rows if key in row.parameters])
        for key, name in parameter_names(row.parameters for row in rows).items()
    }
    result = _dimension(board.metric, [row.value for row in rows])
    width = 2.0 if len(rows) < MANY_TRIALS else 1.0
    values = [row.value for row in rows if row.value is not None]
    low, high = min(values), max(values)
    lines = []
    for row in reversed(rows):  # the best is drawn last, on top
        worse = ((row.value or 0.0) - low) / (high - low) if high > low else 0.0
        lines.append(_line(row, dimensions, result, worse if board.mode == "min" else 1 - worse, width))
    axes = [*dimensions.values(), result]
    return {"data": lines, "layout": _layout(axes)}


def _line(
    row: LeaderboardRow, dimensions: Mapping[str, _Dimension], result: _Dimension, worse: float, width: float
) -> Figure:
    heights = [axis.place(row.parameters[key]) if key in row.parameters else None for key, axis in dimensions.items()]
    won = row.rank == 1
    colour = ",".join(str(round(good + (bad - good) * worse)) for good, bad in zip(_GOOD, _BAD, strict=True))
    settings = [f"{axis.name} {number(row.parameters.get(key), 3)}" for key, axis in dimensions.items()]
    words = [f"trial {row.trial}", *settings, f"{result.name} {measure(row.value)}"]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(range(len(heights) + 1)),
        "y": [*heights, result.place(row.value)],
        "line": {"color": ACCENT if won else f"rgb({colour})", "width": 2 * width if won else width},
        "marker": {"size": 7 if won else 5},
        "opacity": 1 if won else 0.75,
        "hovertemplate": html.escape(" | ".join(words)).replace(" | ", "<br>") + "<extra></extra>",
        "showlegend": False,
    }


def _dimension(name: str, values: Sequence[Any]) -> _Dimension:
    distinct = list({repr(value): value for value in values}.values())  # a value may be a list
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in distinct)
    if len(distinct) == 1:
        return _Dimension(name, lambda _: 0.5, [(0.5, number(distinct[0], 3))])
    if not numeric or (len(distinct) <= 6 and all(isinstance(value, int) for value in distinct)):
        ordered = sorted(distinct) if numeric else sorted(distinct, key=str)
        places = {repr(value): index / (len(ordered) - 1) for index, value in enumerate(ordered)}
        ticks = [(places[repr(value)], str(value)) for value in ordered]
        return _Dimension(name, lambda value: places[repr(value)], ticks)
    low, high = min(distinct), max(distinct)
    logarithmic = low > 0 and high / low >= 20
    to_axis: Callable[[float], float] = math.log if logarithmic else float
    from_axis: Callable[[float], float] = math.exp if logarithmic else float
    bottom, span = to_axis(low), to_axis(high) - to_axis(low)
    ticks = [(share, number(float(from_axis(bottom + share * span)), 2)) for share in (0.0, 0.5, 1.0)]
    return _Dimension(name, lambda value: (to_axis(value) - bottom) / span, ticks)


def _layout(axes: Sequence[_Dimension]) -> Figure:
    posts = [
        {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": {"color": NEUTRAL, "width": 1}, "layer": "below"}
        for at in range(len(axes))
    ]
    last = len(axes) - 1
    labels = [
        {
            "x": at,
            "y": height,
            "text": html.escape(text),
            "showarrow": False,
            "xanchor": "right" if at < last else "left",
            "xshift": -8 if at < last else 8,
            "font": {"size": 12},
        }
        for at, axis in enumerate(axes)
        for height, text in axis.ticks
    ]
    heads = [
        {"x": at, "y": 1.0, "yshift": 24 if at % 2 == 0 else 42, "text": f"<b>{html.escape(axis.name)}</b>"}
        for at, axis in enumerate(axes)
    ]
    return {
        "xaxis": {"visible": False, "range": [-0.35, last + 0.35], "fixedrange": True},
        "yaxis": {"visible": False, "range": [-0.06, 1.06], "fixedrange": True},
        "margin": {"t": 64, "b": 12},
        "shapes": posts,
        "annotations": [*labels, *({"showarrow": False, **head} for head in heads)],
        "hovermode": "closest",
    }
