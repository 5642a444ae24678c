"""From one trial's end to the next one's first step, out of the clock times that a lane's trials leave."""

from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

from measures.options import Measure, Options, Row
from measures.rounds import interleave
from measures.sweep import ours
from raytune_ft.paths import read_json

SIDES = ("gap",)
GOAL_S = 0.5


def measure(options: Options) -> dict[str, Any]:
    """Sweeps of trials on one lane, one after the other."""
    gaps: list[float] = []
    with options.scratch("gap") as scratch:

        def side() -> float:
            directory = scratch / f"{len(gaps):03d}"
            ours(directory, options.trials, {"type": "lane", "packed": 1})
            found = gaps_of(directory / "runs" / "lanes" / "trials")
            gaps.extend(found)
            return round(statistics.median(found), 3)

        medians = interleave({"gap": side}, options.rounds_of(SIDES))["gap"]
    return {
        "rounds": len(medians),
        "gaps": len(gaps),
        "median_seconds": round(statistics.median(medians), 3),
        "worst_seconds": round(max(gaps), 3),
    }


def gaps_of(trials: Path) -> list[float]:
    """Seconds between each trial's end and the first step of the one that was taken next."""
    times = sorted((read_json(path) for path in trials.glob("*/timing.json")), key=lambda each: each["taken"])
    return [after["first_step"] - before["ended"] for before, after in pairwise(times)]


def rows(result: dict[str, Any]) -> list[Row]:
    """One line."""
    seconds = result["median_seconds"]
    return [
        Row(
            "from one trial's end to the next one's first step, same base",
            f"under {GOAL_S} s",
            f"{seconds:.2f} s (worst of {result['gaps']}: {result['worst_seconds']:.2f} s)",
            seconds < GOAL_S,
        )
    ]


GAP = Measure(measure, rows, SIDES)
