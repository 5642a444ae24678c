"""What `plan` expects of a sweep before it began against what it took, and how long a trial says nothing."""

from __future__ import annotations

import math
import re
import statistics
import subprocess
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from measures.inputs import machine_type, write_experiment
from measures.options import Measure, Options, Row
from measures.processes import SideFailed
from measures.rounds import interleave
from raytune_ft.paths import read_json

SIDES = ("lane", "lane_of_two", "isolated")
GOAL, FIRST_LINE_S, GAP_S = 1.7, 10.0, 15.0
_TIMEOUT_S = 1800.0
_TRIAL = re.compile(r"^trial (\d{4})")
_SETTINGS: dict[str, dict[str, Any]] = {
    "lane": {"runner": {"type": "lane"}},
    "lane_of_two": {"runner": {"type": "lane"}, "resources": {"workers": 2, "cpus_per_worker": 1}},
    "isolated": {"runner": {"type": "isolated"}},
}
_TRAIN = {"max_steps": 24, "per_device_train_batch_size": 16}
_SEARCH = {"scheduler": {"type": "asha", "grace_period": 8, "reduction_factor": 3}, "trials": 4}


def measure(options: Options) -> dict[str, Any]:
    """Sweeps of four trials of long steps, whose lines are timed as they come."""
    with options.scratch("plan") as scratch:

        def side(name: str) -> dict[str, float]:
            where = scratch / f"{len(list(scratch.iterdir())):03d}-{name}"
            settings = {"train": _TRAIN, "search": _SEARCH, **_SETTINGS[name]}
            path = write_experiment(where, 4, settings.pop("runner"), **settings)
            return _swept(path, where)

        found = interleave({name: partial(side, name) for name in SIDES}, options.rounds_of(SIDES))
    return {
        "dtype": machine_type(),
        "rounds": {name: len(values) for name, values in found.items()},
        "planned_over_truth": {
            name: [round(each["planned_s"] / each["took_s"], 2) for each in values] for name, values in found.items()
        },
        "within_range": sum(each["low_s"] <= each["took_s"] <= each["high_s"] for v in found.values() for each in v),
        "of": sum(map(len, found.values())),
        "range_factor": round(
            statistics.median(each["high_s"] / each["low_s"] for values in found.values() for each in values), 2
        ),
        "worst_first_line_s": round(max(each["first_line_s"] for values in found.values() for each in values), 1),
        "worst_gap_s": round(max(each["gap_s"] for values in found.values() for each in values), 1),
    }


def _swept(experiment: Path, where: Path) -> dict[str, float]:
    """One sweep: what was planned, what it took, and the longest times without a line while a trial ran."""
    command = [sys.executable, "-m", "raytune_ft", "sweep", str(experiment)]
    side = subprocess.Popen(command, cwd=where, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert side.stderr is not None
    first, gap, said = 0.0, 0.0, dict[str, list[float]]()
    deadline = time.monotonic() + _TIMEOUT_S
    with side.stderr as lines:
        for line in lines:
            if time.monotonic() > deadline:
                side.kill()
            if named := _TRIAL.match(line):
                said.setdefault(named[1], []).append(time.monotonic())
    if side.wait() != 0:
        raise SideFailed(f"{command}: exit code {side.returncode}")
    for times in said.values():
        first = max(first, times[1] - times[0])
        gap = max([gap, *(after - before for before, after in pairwise(times[1:]))])
    run = where / "runs" / "lanes"
    planned = read_json(run / "plan.json")["planned"]["hours"]
    took_s = 3600 * read_json(run / "spent.json")["hours"]
    return {
        "planned_s": 3600 * planned["likely"],
        "low_s": 3600 * planned["low"],
        "high_s": 3600 * planned["high"],
        "took_s": took_s,
        "first_line_s": first,
        "gap_s": gap,
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """The plan's error, its range, and the silences."""
    lines = []
    for name, ratios in result["planned_over_truth"].items():
        worst = max(ratios, key=lambda each: abs(math.log(each)))
        off = max(worst, 1 / worst)
        shown = f"{worst:.2f} times the truth at worst, of {len(ratios)}"
        lines.append(Row(f"`plan` before the first rung, {name}", f"within {GOAL}", shown, off <= GOAL))
    inside = f"{result['within_range']} of {result['of']}, ranges of {result['range_factor']:.1f} times"
    lines.append(Row("sweeps that took what lies in the plan's range", "", inside))
    first, gap = result["worst_first_line_s"], result["worst_gap_s"]
    lines.append(
        Row(
            "first line of progress after a trial's start",
            f"{FIRST_LINE_S:.0f} s",
            f"{first:.1f} s",
            first <= FIRST_LINE_S,
        )
    )
    lines.append(
        Row("longest time without a line about a running trial", f"{GAP_S:.0f} s", f"{gap:.1f} s", gap <= GAP_S)
    )
    return lines


PLAN_TRUTH = Measure(measure, rows, SIDES)
