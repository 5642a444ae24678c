"""How long stages 2 to 5 of `make quickstart` take: search, prove, register, serve; the assets are there already."""

from __future__ import annotations

import re
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from measures.inputs import ROOT, machine_type
from measures.options import Measure, Options, Row
from measures.processes import run_side
from measures.rounds import interleave

SIDES = ("quickstart",)
GOALS_S = {"bfloat16": 240.0, "float32": 600.0}
"""By the type that the machine is fast in."""
_TIMEOUT_S = 1800.0
_DONE = re.compile(r"^\[(\d)/5\] (\w+): done in (\d+) s", re.MULTILINE)


def measure(options: Options) -> dict[str, Any]:
    """The quickstart in a directory of its own, so that the runs and the registry of the checkout stay as they are."""
    stages: list[dict[str, int]] = []
    with options.scratch("quickstart") as scratch:

        def side() -> int:
            stages.append(_stages(scratch / f"{len(stages):03d}"))
            return sum(stages[-1].values())

        totals = interleave({"quickstart": side}, options.rounds_of(SIDES))["quickstart"]
    return {
        "rounds": len(totals),
        "dtype": machine_type(),
        "median_seconds": statistics.median(totals),
        "worst_seconds": max(totals),
        "stages_median_seconds": {name: statistics.median(each[name] for each in stages) for name in stages[0]},
    }


def _stages(directory: Path) -> dict[str, int]:
    directory.mkdir(parents=True)
    for name in ("experiments", "search_spaces"):
        shutil.copytree(ROOT / name, directory / name)
    (directory / "assets").symlink_to(ROOT / "assets")
    run_side([sys.executable, "-m", "raytune_ft", "quickstart"], directory, _TIMEOUT_S)
    done = _DONE.findall((directory / "log.txt").read_text(errors="replace"))
    return {name: int(seconds) for number, name, seconds in done if int(number) >= 2}


def rows(result: dict[str, Any]) -> list[Row]:
    """One line."""
    parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in result["stages_median_seconds"].items())
    seconds, goal = result["median_seconds"], GOALS_S[result["dtype"]]
    measured = f"{seconds / 60:.1f} minutes ({parts} s)"
    return [Row("`make quickstart`, stages 2 to 5", f"at most {goal / 60:.0f} minutes", measured, seconds <= goal)]


QUICKSTART = Measure(measure, rows, SIDES, by_default=False)
