"""Draws a static picture of a sweep, for a README or a slide: its history beside its learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory
from raytune_ft.reporting.html.plots import ACCENT, OUTCOME_COLOURS, wants_log
from raytune_ft.reporting.read import read_leaderboard, read_trials
from raytune_ft.reporting.records import Leaderboard, TrialRecord
from raytune_ft.reporting.wording import OUTCOMES, measure, outcome_words

_STYLE: Any = {
    "font.family": ["Inter", "DejaVu Sans"],
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.1,
    "font.size": 11,
    "axes.edgecolor": "#c9ced6",
    "axes.labelcolor": "#3d4656",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e9ecf0",
    "xtick.color": "#5b6472",
    "ytick.color": "#5b6472",
    "text.color": "#161b26",
    "legend.frameon": False,
    "svg.hashsalt": "raytune-ft",
}


def write_picture(run: RunDirectory, path: Path) -> Path:
    """Draws the sweep into `path`, a .png or .svg file.

    Raises:
        InputError: The suffix is another one, matplotlib is missing, or the run has no leaderboard yet.
    """
    if path.suffix not in (".png", ".svg"):
        raise InputError("--plot", f"{path.name!r} is neither .png nor .svg", "give a name that ends in one of them")
    board, trials = read_leaderboard(run), read_trials(run)
    try:
        import matplotlib
    except ImportError:
        raise InputError("--plot", "matplotlib is not installed", "pip install matplotlib") from None
    matplotlib.use("Agg")
    matplotlib.set_loglevel("ERROR")  # else it logs several lines about each missing font
    from matplotlib import pyplot, ticker

    with pyplot.rc_context(_STYLE):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.4), layout="constrained", sharey=True)
        _draw_history(left, board)
        _draw_curves(right, board, trials)
        if wants_log([row.value for row in board.rows if row.value is not None and math.isfinite(row.value)]):
            left.set_yscale("log")
            left.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
            left.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            left.yaxis.set_minor_formatter(ticker.NullFormatter())
        left.set_ylabel(board.metric)
        left.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        right.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        for axes in (left, right):
            axes.tick_params(length=0)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), handletextpad=0.5)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, facecolor="white", metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)
    return path


def _draw_history(axes: Any, board: Leaderboard) -> None:
    rows = sorted(board.rows, key=lambda row: row.trial)
    better = min if board.mode == "min" else max
    values = [row.value if row.value is not None and math.isfinite(row.value) else None for row in rows]
    known = [value for value in values if value is not None]
    best = [better(seen) if (seen := [value for value in values[:count] if value is not None]) else math.nan
            for count in range(1, len(values) + 1)]  # fmt: skip
    axes.step(range(1, len(best) + 1), best, where="post", color=ACCENT, linewidth=2, label="best so far", zorder=2)
    for outcome in OUTCOMES:
        places = [place for place, row in enumerate(rows) if row.outcome == outcome]
        if not places:
            continue
        whole = [values[place] is not None for place in places]
        axes.scatter(
            [place + 1 for place in places],
            [values[place] if values[place] is not None else max(known, default=1.0) for place in places],
            color=OUTCOME_COLOURS[outcome],
            marker="o" if any(whole) else "X",
            s=58,
            label=outcome_words(outcome) + ("" if any(whole) else " (no value)"),
            zorder=3,
            linewidths=0,
        )
    for place, row in enumerate(rows, start=1):
        if row.rank == 1 and row.value is not None:
            axes.scatter(
                [place], [row.value], marker="*", s=300, color=ACCENT, edgecolor="white", label="winner", zorder=4
            )
    axes.set_title(f"{len(rows)} trials, best {measure(better(known)) if known else '-'}", fontweight="bold")
    axes.set_xlabel("trial, by start")


def _draw_curves(axes: Any, board: Leaderboard, trials: Sequence[TrialRecord]) -> None:
    winner = next((row.trial for row in board.rows if row.rank == 1), None)
    for trial in trials:
        curve = {point.step: value for point in trial.points if (value := point.value(board.metric)) is not None}
        won = trial.trial == winner
        axes.plot(
            list(curve),
            list(curve.values()),
            color=ACCENT if won else OUTCOME_COLOURS.get(trial.outcome, "#8b93a1"),
            linewidth=3 if won else 1.4,
            alpha=1 if won else 0.7,
            marker="o",
            markersize=6 if won else 4,
            zorder=3 if won else 2,
        )
    axes.set_title("Learning curves, coloured by outcome", fontweight="bold")
    axes.set_xlabel("optimizer step")
