"""What serving through this package costs and guarantees: our endpoint against bare `vllm serve`, and under promotion.

Real Ray Serve and vLLM on assets/smollm2-135m-instruct with random adapters. Writes benchmarks/results/serving.json and
prints a table. Needs assets/. Measures named with --only replace theirs in the JSON and leave the others.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from measures.command import options_of, parser_of, run
from measures.inputs import ROOT
from measures.options import Measure, Options
from serving_measures.first_answer import FIRST_ANSWER
from serving_measures.first_token import FIRST_TOKEN
from serving_measures.gateway import GATEWAY
from serving_measures.many_adapters import MANY_ADAPTERS
from serving_measures.promotion import PROMOTION
from serving_measures.start import START
from serving_measures.throughput import THROUGHPUT

RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
MEASURES: dict[str, Measure] = {
    "start": START,
    "throughput": THROUGHPUT,
    "first_token": FIRST_TOKEN,
    "gateway": GATEWAY,
    "promotion": PROMOTION,
    "first_answer": FIRST_ANSWER,
    "many_adapters": MANY_ADAPTERS,
}


def main(words: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__, MEASURES, RESULTS)
    parser.add_argument(
        "--requests", type=int, default=Options().requests, metavar="N", help="of the traffic to many adapters"
    )
    arguments = parser.parse_args(words)
    return run(arguments, MEASURES, replace(options_of(arguments), requests=arguments.requests))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that sides end with us
    sys.exit(main())
