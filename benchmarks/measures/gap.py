"""From one trial's end to the next one's first step, out of the clock times that a lane's trials leave."""

from __future__ import annotations

import statistics
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from measures.options import Measure, Options, Row
from measures.rounds import interleave
from measures.sweep import ours
from raytune_ft.paths import read_json

SIDES = ("gap", "gap_pruned")
GOAL_S = 0.5
PRUNING: dict[str, dict[str, Any]] = {
    "search": {"scheduler": {"type": "asha", "grace_period": 2, "reduction_factor": 3}},
    "tracking": {"tensorboard": True, "wandb": {"mode": "offline"}},
}
"""A search that stops trials at rungs, and tells both trackers."""
SHOWN = {
    "gap": "from one trial's end to the next one's first step, same base",
    "gap_pruned": "the same where ASHA stops the trial, from its last report; W&B (offline) and TensorBoard on",
}


def measure(options: Options) -> dict[str, Any]:
    """Sweeps of trials on one lane, one after the other."""
    gaps: dict[str, list[float]] = {name: [] for name in SIDES}
    with options.scratch("gap") as scratch:
        numbers = count()

        def side(name: str, kind: str, changes: dict[str, dict[str, Any]]) -> float:
            directory = scratch / f"{next(numbers):03d}"
            ours(directory, options.trials, {"type": "lane", "packed": 1}, **changes)
            found = gaps_of(directory / "runs" / "lanes" / "trials", kind)
            gaps[name].extend(found)
            return round(statistics.median(found), 3)

        sides = {
            "gap": partial(side, "gap", "completed", {}),
            "gap_pruned": partial(side, "gap_pruned", "pruned", PRUNING),
        }
        medians = interleave(sides, options.rounds_of(SIDES))
    return {
        "rounds": {name: len(values) for name, values in medians.items()},
        "gaps": {name: len(gaps[name]) for name in medians},
        "median_seconds": {name: round(statistics.median(values), 3) for name, values in medians.items()},
        "worst_seconds": {name: round(max(gaps[name]), 3) for name in medians},
    }


def gaps_of(trials: Path, kind: str) -> list[float]:
    """Seconds from the end of each trial that ended as `kind` to the first step of the one that was taken next.

    A pruned trial's end is its last report, after which its lane had nothing to do.
    """
    ended = {path.parent: read_json(path)["outcome"] for path in trials.glob("*/outcome.json")}
    times = {path.parent: read_json(path) for path in trials.glob("*/timing.json")}
    order = sorted(times, key=lambda each: times[each]["taken"])
    last = "reported" if kind == "pruned" else "ended"
    return [
        times[after]["first_step"] - times[before][last] for before, after in pairwise(order) if ended[before] == kind
    ]


def rows(result: dict[str, Any]) -> list[Row]:
    """One line for each way in which a trial ends."""
    return [
        Row(
            SHOWN[name],
            f"under {GOAL_S} s",
            f"{seconds:.2f} s (worst of {result['gaps'][name]}: {result['worst_seconds'][name]:.2f} s)",
            seconds < GOAL_S,
        )
        for name, seconds in result["median_seconds"].items()
    ]


GAP = Measure(measure, rows, SIDES)
