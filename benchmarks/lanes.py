"""What a lane is worth: gap between trials, whole sweeps, steps, switches, packing and memory, against its peers.

Writes benchmarks/results/lanes.json and prints a table. Needs assets/. A full run takes hours, as the slow sides start
everything anew for each trial; measures named with --only replace theirs in the JSON and leave the others.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from measures.command import options_of, parser_of, run
from measures.gap import GAP
from measures.inputs import ROOT
from measures.memory import MEMORY
from measures.options import Measure
from measures.packed import PACKED
from measures.plan_truth import PLAN_TRUTH
from measures.quickstart import QUICKSTART
from measures.step import STEP
from measures.sweep import SWEEP
from measures.switches import SWITCHES_MEASURE

RESULTS = ROOT / "benchmarks" / "results" / "lanes.json"
MEASURES: dict[str, Measure] = {
    "gap": GAP,
    "sweep": SWEEP,
    "step": STEP,
    "switches": SWITCHES_MEASURE,
    "packed": PACKED,
    "memory": MEMORY,
    "quickstart": QUICKSTART,
    "plan": PLAN_TRUTH,
}


def main(words: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__, MEASURES, RESULTS)
    parser.add_argument("--trials", type=int, choices=range(2, 9), default=8, metavar="2..8", help="trials of a sweep")
    arguments = parser.parse_args(words)
    return run(arguments, MEASURES, replace(options_of(arguments), trials=arguments.trials))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that sides end with us
    sys.exit(main())
