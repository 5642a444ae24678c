"""What a trial costs beside its training: 1,000 trials that train nothing in one study, through the real sweep.

Real Ray Tune, StudySearcher, SQLite, dispatcher and proxies; ASHA and TPE; only the lane's training loop is left out.
Prints seconds per trial and writes benchmarks/results/overhead.json. Needs assets/.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "overhead.json"
TRIALS = 1000


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    from measures.inputs import check_assets
    from measures.overhead import measure
    from measures.rounds import say, with_load

    from raytune_ft.errors import InputError
    from raytune_ft.paths import write_json

    try:
        check_assets()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    with TemporaryDirectory(prefix="overhead-", ignore_cleanup_errors=True) as directory:
        measured = with_load(lambda: measure(Path(directory), arguments.trials, say))
    result = {"rounds": 1, **measured}
    write_json(arguments.results, result)
    print(json.dumps(result, indent=2))
    each = result["seconds_per_trial"]
    print(
        f"overhead per trial: median {each['median']:.3f} s, 95 % within {each['p95']:.3f} s, {result['trials']} trials"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS, help="in the study")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write them")
    return parser


if __name__ == "__main__":
    sys.exit(main())
