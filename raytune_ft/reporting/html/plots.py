"""The report's plots as plotly.js figures: plain dicts, in colours that are readable on light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from raytune_ft.metrics.named import task_metrics
from raytune_ft.reporting.html.importance import Importances
from raytune_ft.reporting.records import Evaluation, Leaderboard, TrialRecord
from raytune_ft.reporting.wording import OUTCOMES, goals_in_words, measure, number, outcome_words, parameter_names
from raytune_ft.search.results.rows import LeaderboardRow

Figure = dict[str, Any]

OUTCOME_COLOURS = {
    "completed": "#0d9488",
    "pruned": "#d97706",
    "diverged": "#dc2626",
    "out_of_memory": "#9333ea",
    "failed": "#e11d48",
    "running": "#2563eb",
}
NEUTRAL = "#8b93a1"
ACCENT = "#2563eb"
MANY_TRIALS = 40
"""From this many trials on, lines are thin and pale, and only the winner is named."""
LOG_FROM = 5.0  # ratio of worst to best value from which an axis is logarithmic


def history(board: Leaderboard) -> Figure:
    """Returns a plot of each trial's value in the order in which trials started, and of the best so far."""
    rows = sorted(board.rows, key=lambda row: row.trial)
    order = {row.trial: place for place, row in enumerate(rows, start=1)}
    better = min if board.mode == "min" else max
    best: list[float | None] = []
    for row in rows:
        known = [value for value in (*best[-1:], finite(row.value)) if value is not None]
        best.append(better(known) if known else None)
    data: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": list(order.values()),
            "y": best,
            "line": {"shape": "hv", "color": ACCENT, "width": 2},
            "hoverinfo": "skip",
        }
    ]
    values = [value for row in rows if (value := finite(row.value)) is not None]
    top = max(values, default=1.0)
    for outcome in OUTCOMES:
        of_outcome = [row for row in rows if row.outcome == outcome]
        if of_outcome:
            data.append(_history_points(outcome, of_outcome, order, top))
    return {
        "data": data,
        "layout": {
            "xaxis": {"title": {"text": "trial, by start"}, "tickformat": "d"},
            "yaxis": axis(board.metric, values),
        },
    }


def _history_points(outcome: str, rows: Sequence[LeaderboardRow], order: Mapping[str, int], top: float) -> Figure:
    lost = all(finite(row.value) is None for row in rows)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": outcome_words(outcome) + (" (no value)" if lost else ""),
        "x": [order[row.trial] for row in rows],
        "y": [top if finite(row.value) is None else row.value for row in rows],
        "text": [hover(row) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "color": [ACCENT if row.rank == 1 else OUTCOME_COLOURS[outcome] for row in rows],
            "opacity": 1,
            "size": [16 if row.rank == 1 else 10 for row in rows],
            "symbol": ["star" if row.rank == 1 else "x" if finite(row.value) is None else "circle" for row in rows],
            "line": {"width": 0},
        },
    }


def curves(trials: Sequence[TrialRecord], winner: str | None, metric: str) -> Figure:
    """Returns a plot of the metric on the validation split over steps, one line for each trial, coloured by outcome."""
    data: list[Figure] = []
    named: set[str] = set()
    few = len(trials) < MANY_TRIALS
    for trial in sorted(trials, key=lambda trial: trial.trial == winner):  # the winner is drawn last, on top
        by_step = {point.step: value for point in trial.points if (value := point.value(metric)) is not None}
        if not by_step:
            continue
        won = trial.trial == winner
        colour = ACCENT if won else OUTCOME_COLOURS.get(trial.outcome, NEUTRAL)
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if few or won else "lines",
                "name": "winner" if won else outcome_words(trial.outcome),
                "legendgroup": "winner" if won else trial.outcome,
                "showlegend": won or trial.outcome not in named,
                "x": list(by_step),
                "y": list(by_step.values()),
                "line": {"color": colour, "width": 3 if won else 1.5},
                "marker": {"size": 8 if won else 5},
                "opacity": 1 if won else 0.75 if few else 0.3,
                "hovertemplate": f"trial {escape(trial.trial)}<br>step %{{x}}: %{{y:.4f}}<extra></extra>",
            }
        )
        if not won:
            named.add(trial.outcome)
    values = [value for line in data for value in line["y"]]
    return {"data": data, "layout": {"xaxis": {"title": {"text": "optimizer step"}}, "yaxis": axis(metric, values)}}


def wants_log(values: Sequence[float]) -> bool:
    """Returns whether values are so far apart that weak trials would squeeze good ones together on a linear scale."""
    return bool(values) and min(values) > 0 and max(values) > LOG_FROM * min(values)


def importance(importances: Importances) -> Figure:
    """Returns a plot with a bar for each parameter's share, the greatest on top."""
    names = parameter_names([importances.shares])
    shares = list(importances.shares.items())[::-1]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [share for _, share in shares],
        "y": [escape(names[key]) for key, _ in shares],
        "text": [f"{share:.0%}" for _, share in shares],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": ACCENT},
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }
    layout = {
        "xaxis": {"tickformat": ".0%", "rangemode": "tozero", "title": {"text": "share of the variation explained"}},
        "yaxis": {"automargin": True, "ticksuffix": "  "},
        "height": 130 + 44 * len(shares),
        "bargap": 0.4,
        "showlegend": False,
    }
    return {"data": [bars], "layout": layout}


def differences(evaluation: Evaluation) -> Figure | None:
    """Returns a plot of winner minus base with intervals, in points, for metrics that are no loss; None without any."""
    metrics = [metric for metric in task_metrics(evaluation.metrics) if metric in evaluation.difference]
    if not metrics:
        return None
    gaps = [evaluation.difference[metric] for metric in reversed(metrics)]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [100 * gap.mean for gap in gaps],
        "y": [escape(metric.replace("_", " ")) for metric in reversed(metrics)],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [100 * (gap.high - gap.mean) for gap in gaps],
            "arrayminus": [100 * (gap.mean - gap.low) for gap in gaps],
            "thickness": 3,
            "width": 7,
            "color": ACCENT,
        },
        "marker": {"color": ACCENT, "size": 12},
        "hovertemplate": "%{y}: %{x:+.1f} points<extra></extra>",
    }
    layout = {
        "xaxis": {"title": {"text": "winner minus base, points of 100"}, "rangemode": "tozero"},
        "yaxis": {"automargin": True, "ticksuffix": "  ", "range": [-0.6, len(metrics) - 0.4]},
        "shapes": [{"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": NEUTRAL}}],
        "height": 130 + 56 * len(metrics),
        "showlegend": False,
    }
    return {"data": [dots], "layout": layout}


def axis(metric: str, values: Sequence[float]) -> Figure:
    """Returns a metric's axis, logarithmic where its values are far apart."""
    plain: Figure = {"title": {"text": escape(metric)}, "automargin": True}
    return plain | ({"type": "log"} if wants_log(values) else {})


def hover(row: LeaderboardRow) -> str:
    """Returns the text that is shown for a trial under the pointer: outcome, values, parameters and reason."""
    names = parameter_names([row.parameters])
    lines = [
        f"trial {row.trial}: {outcome_words(row.outcome)}",
        goals_in_words(row.values) if len(row.values) > 1 else measure(row.value),
    ]
    lines += [f"{names[key]} {number(value, 3)}" for key, value in row.parameters.items()]
    if row.reason:
        lines.append(row.reason[:120])
    return "<br>".join(escape(line) for line in lines)


def escape(text: str) -> str:
    """Escapes text for plotly.js, which interprets a subset of HTML in its labels."""
    return html.escape(str(text))


def finite(value: float | None) -> float | None:
    """Returns `value`, or None where it is missing or not finite."""
    return value if value is not None and math.isfinite(value) else None
