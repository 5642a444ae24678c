"""How much of training a search needs: every algorithm and scheduler over recorded learning curves, 30 seeds each.

`--record DATA` trains the grid for real (an hour a data set on two cores) and keeps its curves. Without it, searches
are replayed over the curves that are there, through the classes that a sweep uses. Writes
benchmarks/results/search_quality.json and prints a table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "search_quality.json"
SEEDS = 30


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    from measures.rounds import say

    for data in arguments.record or ():
        from quality.record import record

        try:
            say(f"wrote {record(data).relative_to(ROOT)}")
        except subprocess.CalledProcessError as error:
            return int(error.returncode)
    if arguments.record:
        return 0
    results = _replay(arguments.seeds, arguments.only)
    from raytune_ft.paths import write_json

    if not arguments.only:
        write_json(arguments.results, results)
    for data, measured in results["measures"].items():
        _print(data, measured)
    return 0


def _replay(seeds: int, only: Sequence[str] | None) -> dict[str, Any]:
    from measures.rounds import say, with_load
    from quality.compare import compare
    from quality.curves import load, names

    measures = {}
    for curves in map(load, names()):
        if curves.whole:
            say(f"{curves.name}:")
            measures[curves.name] = with_load(partial(compare, curves, seeds, only))
    return {"measures": measures}


def _print(data: str, measured: dict[str, Any]) -> None:
    at = [f"{each}" for each in measured["at_whole_trials"]]
    head = ["to 1 %: reached", "trials", "tokens", *(f"regret at {each}" for each in at)]
    print(
        f"\n{data}: {measured['configurations']} configurations, {measured['near']} within 1 % of the best loss "
        f"{measured['best']} on {measured['validation_rows']} rows; "
        f"medians of {measured['rounds']} seeds, tokens in whole trials"
    )
    print(f"{'':32}" + "".join(f"{each:>16}" for each in head))
    for name, side in measured["sides"].items():
        cells = [
            f"{side['reached']}/{side['seeds']}",
            _cell(side["trials_to_1_percent"]),
            _cell(side["tokens_to_1_percent"]),
        ]
        cells += [_percent(side["regret"][each]) for each in at]
        print(f"{name:32}" + "".join(f"{each:>16}" for each in cells))
    if measured["random_over_default"] is not None:
        print(f"random's tokens / the default's: {measured['random_over_default']}")


def _cell(value: float | None) -> str:
    return "never" if value is None else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", nargs="+", metavar="DATA", help="train the grid on assets/data/DATA.train.jsonl")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--only", nargs="+", metavar="SIDE", help="replay only these, and write nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
