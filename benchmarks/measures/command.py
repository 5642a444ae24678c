"""The command line of a benchmark of several measures: runs them, keeps each result at once, prints the table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from measures.inputs import check_assets
from measures.options import Measure, Options, Row
from measures.processes import SideFailed
from measures.rounds import code, machine, say, with_load
from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.paths import read_json, write_json

Measures = Mapping[str, Measure]


def parser_of(description: str | None, measures: Measures, results: Path) -> argparse.ArgumentParser:
    """The options that every such benchmark has; more can be added to it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    more: dict[str, Any] = {"nargs": "+", "action": "extend"}  # the option may be given again
    parser.add_argument("--only", choices=measures, metavar="NAME", help=", ".join(measures), **more)
    parser.add_argument(
        "--rounds",
        **more,
        type=lambda word: _round_count(word, measures),
        default=[],
        metavar="N|SIDE=N",
        help="rounds of every side, default 5; SIDE=N for one side, 0 leaves it out",
    )
    parser.add_argument(
        "--add", action="store_true", help="put the rounds to those of earlier runs: same machine, same code"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave what the sides write there")
    parser.add_argument(
        "--results", type=Path, default=results, metavar="FILE", help=f"default: {results.name} of results/"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as markdown")
    parser.add_argument("--show", action="store_true", help="measure nothing, print what was measured")
    return parser


def options_of(arguments: argparse.Namespace) -> Options:
    """What `parser_of`'s options say."""
    rounds, side_rounds = Options().rounds, {}
    for word in arguments.rounds:
        side, equals, number = word.rpartition("=")
        if equals:
            side_rounds[side] = int(number)
        else:
            rounds = int(number)
    return Options(rounds, side_rounds, keep=arguments.keep)


def run(arguments: argparse.Namespace, measures: Measures, options: Options) -> int:
    """Measures what was asked for, and returns the exit code."""
    failed = 0
    try:
        results = _read_results(arguments.results)
        if not arguments.show:
            check_assets()
            for name in arguments.only or [name for name, each in measures.items() if each.by_default]:
                chosen = _adding(name, measures[name], options, results) if arguments.add else options
                failed += not _measured(name, measures[name], chosen, results, arguments.results)
    except RaytuneError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("stopped; what was measured is kept")
        return 130
    _print_table(results, measures, arguments.markdown)
    return 1 if failed else 0


def _adding(name: str, measure: Measure, options: Options, results: dict[str, Any]) -> Options:
    """With what the measure found before.

    Raises:
        InputError: That was another machine or other code, or the measure can't be added to.
    """
    earlier = results["measures"].get(name)
    if not measure.adds:
        raise InputError("--add", f"{name} is measured in one run", "leave it out")
    if earlier is None:
        return options
    for what, found, now in (("machine", earlier["machine"], machine()), ("code", earlier.get("code"), code())):
        if found != now or now == "changed":
            raise InputError("--add", f"{name} was measured with {what} {found}, this is {now}", "leave it out")
    return replace(options, earlier=earlier)


def _measured(name: str, measure: Measure, options: Options, results: dict[str, Any], path: Path) -> bool:
    """Measures and keeps the result; a side that fails costs its measure, not the hours of the others."""
    say(name)
    try:
        found = with_load(lambda: measure.run(options))
    except SideFailed as error:
        say(f"error: {name}: {error}")
        return False
    results["measures"][name] = found | ({"load_before": options.earlier["load_before"]} if options.earlier else {})
    write_json(path, results)
    return True


def _read_results(path: Path) -> dict[str, Any]:
    """What was measured before. Sides of a measure take turns on one machine; another measure may have had another."""
    return dict(read_json(path)) if path.is_file() else {"measures": {}}


def _print_table(results: dict[str, Any], measures: Measures, markdown: bool) -> None:
    found = {name: results["measures"][name] for name in measures if name in results["measures"]}
    rows = [("what", "goal", "measured", "")]
    rows += [_cells(row) for name, result in found.items() for row in measures[name].rows(result)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("| " + " | ".join(cells) + " |" if markdown else "  ".join(cells).rstrip())
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|" if markdown else "-" * (sum(widths) + 6))
    print()
    print("Medians. Rounds, load before and after, and machine of each:")
    for name, result in found.items():
        load = f"{result['load_before']} and {result['load_after']}"
        print(f"{'- ' if markdown else '  '}{name}: {_rounds(result)}; {load}; {result['machine']}")


def _cells(row: Row) -> tuple[str, str, str, str]:
    return row.what, row.goal, row.measured, {True: "reached", False: "missed", None: ""}[row.reached]


def _rounds(result: dict[str, Any]) -> str:
    rounds = result["rounds"]
    if isinstance(rounds, int):
        return str(rounds)
    counts = set(rounds.values())
    return str(counts.pop()) if len(counts) == 1 else ", ".join(f"{side} {number}" for side, number in rounds.items())


def _round_count(word: str, measures: Measures) -> str:
    side, equals, number = word.rpartition("=")
    sides = {side for measure in measures.values() for side in measure.sides}
    if not number.isdigit() or (not equals and int(number) == 0):
        raise argparse.ArgumentTypeError(f"{word!r} is neither N nor SIDE=N")
    if equals and side not in sides:
        raise argparse.ArgumentTypeError(f"no side {side!r}; there are {', '.join(sorted(sides))}")
    return word
