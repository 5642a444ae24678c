"""What a lane is worth: gap between trials, whole sweeps, steps, switches, packing and memory, against its peers.

Writes benchmarks/results/lanes.json and prints a table. Needs assets/. A full run takes hours, as the slow sides start
everything anew for each trial; measures named with --only replace theirs in the JSON and leave the others.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measures.gap import GAP
from measures.inputs import ROOT, check_assets
from measures.memory import MEMORY
from measures.options import Measure, Options, Row
from measures.packed import PACKED
from measures.processes import SideFailed
from measures.quickstart import QUICKSTART
from measures.rounds import machine, say, with_load
from measures.step import STEP
from measures.sweep import SWEEP
from measures.switches import SWITCHES_MEASURE

from raytune_ft.errors import RaytuneError
from raytune_ft.paths import read_json, write_json

RESULTS = ROOT / "benchmarks" / "results" / "lanes.json"
MEASURES: dict[str, Measure] = {
    "gap": GAP,
    "sweep": SWEEP,
    "step": STEP,
    "switches": SWITCHES_MEASURE,
    "packed": PACKED,
    "memory": MEMORY,
    "quickstart": QUICKSTART,
}


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    failed = 0
    try:
        results = _read_results(arguments.results)
        if not arguments.show:
            check_assets()
            options = _options(arguments)
            names = arguments.only or [name for name, each in MEASURES.items() if each.by_default]
            for name in names:
                failed += not _measured(name, options, results, arguments.results)
    except RaytuneError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("stopped; what was measured is kept")
        return 130
    _print_table(results, arguments.markdown)
    return 1 if failed else 0


def _measured(name: str, options: Options, results: dict[str, Any], path: Path) -> bool:
    """Measures and keeps the result; a side that fails costs its measure, not the hours of the others."""
    say(name)
    try:
        results["measures"][name] = with_load(lambda: MEASURES[name].run(options))
    except SideFailed as error:
        say(f"error: {name}: {error}")
        return False
    write_json(path, results)
    return True


def _read_results(path: Path) -> dict[str, Any]:
    """What was measured before, if it was on this machine."""
    if path.is_file() and (before := read_json(path))["machine"] == machine():
        return dict(before)
    return {"machine": machine(), "measures": {}}


def _print_table(results: dict[str, Any], markdown: bool) -> None:
    found = {name: results["measures"][name] for name in MEASURES if name in results["measures"]}
    rows = [("what", "goal", "measured", "")]
    rows += [_cells(row) for name, result in found.items() for row in MEASURES[name].rows(result)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("| " + " | ".join(cells) + " |" if markdown else "  ".join(cells).rstrip())
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|" if markdown else "-" * (sum(widths) + 6))
    print()
    print(f"Medians; on {results['machine']}. Rounds, and load before and after, of each:")
    for name, result in found.items():
        print(
            f"{'- ' if markdown else '  '}{name}: {_rounds(result)}, {result['load_before']} and {result['load_after']}"
        )


def _cells(row: Row) -> tuple[str, str, str, str]:
    return row.what, row.goal, row.measured, {True: "reached", False: "missed", None: ""}[row.reached]


def _rounds(result: dict[str, Any]) -> str:
    rounds = result["rounds"]
    if isinstance(rounds, int):
        return str(rounds)
    counts = set(rounds.values())
    return str(counts.pop()) if len(counts) == 1 else ", ".join(f"{side} {number}" for side, number in rounds.items())


def _options(arguments: argparse.Namespace) -> Options:
    rounds, side_rounds = Options().rounds, {}
    for word in arguments.rounds:
        side, equals, number = word.rpartition("=")
        if equals:
            side_rounds[side] = int(number)
        else:
            rounds = int(number)
    return Options(rounds, side_rounds, arguments.trials, arguments.keep)


def _round_count(word: str) -> str:
    side, equals, number = word.rpartition("=")
    sides = {side for measure in MEASURES.values() for side in measure.sides}
    if not number.isdigit() or (not equals and int(number) == 0):
        raise argparse.ArgumentTypeError(f"{word!r} is neither N nor SIDE=N")
    if equals and side not in sides:
        raise argparse.ArgumentTypeError(f"no side {side!r}; there are {', '.join(sorted(sides))}")
    return word


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MEASURES, metavar="NAME", help=", ".join(MEASURES))
    parser.add_argument(
        "--rounds",
        nargs="+",
        type=_round_count,
        default=[],
        metavar="N|SIDE=N",
        help="rounds of every side, default 5; SIDE=N for one side, 0 leaves it out",
    )
    parser.add_argument("--trials", type=int, choices=range(2, 9), default=8, metavar="2..8", help="trials of a sweep")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave what the sides write there")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="default: lanes.json of results/")
    parser.add_argument("--markdown", action="store_true", help="print the table as markdown")
    parser.add_argument("--show", action="store_true", help="measure nothing, print what was measured")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that sides end with us
    sys.exit(main())
