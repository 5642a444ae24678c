"""How soon the command answers: `--help` and `check`, against a Python that starts and ends, interleaved.

Prints seconds (median of the rounds) and writes benchmarks/results/cli_startup.json. Needs assets/ for `check`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 9
ROOT = Path(__file__).parents[1]
SIDES = {
    "python": [sys.executable, "-c", "pass"],
    "help": [sys.executable, "-m", "raytune_ft", "--help"],
    "check": [sys.executable, "-m", "raytune_ft", "check", "experiments/quickstart.yaml"],
}


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    load_before = os.getloadavg()[0]
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(ROUNDS):
        for side, command in SIDES.items():
            times[side].append(seconds(command))
    result = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "load_before": round(load_before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "rounds": ROUNDS,
        "median_seconds": {side: round(statistics.median(values), 3) for side, values in times.items()},
        "worst_seconds": {side: round(max(values), 3) for side, values in times.items()},
    }
    (ROOT / "benchmarks/results/cli_startup.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
