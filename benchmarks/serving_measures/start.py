"""From nothing to the first answer: `raytune-ft serve` against bare `vllm serve` with the same engine."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from measures.inputs import machine_type
from measures.options import Measure, Options, Row
from measures.processes import running_side
from measures.rounds import interleave, medians, ratio, spread

from raytune_ft.registry.store import Registry
from serving_measures.adapters import add_random
from serving_measures.endpoints import MAX_MODEL_LEN, NAME, arguments, bare, free_port, wait_until_answering

SIDES = ("ours", "bare")
GOAL = 1.4


def measure(options: Options) -> dict[str, Any]:
    """Each side in processes of its own, from the start of its first to the answer of one completion."""
    with options.scratch("start") as scratch:
        registry = scratch / "registry"
        opened = Registry(registry)
        version = add_random(opened, "movies", scratch, 0)
        opened.set_alias("movies", "champion", version)
        adapters = {f"{NAME}:movies@{version}": opened.path("movies", version)}
        numbers = count()

        def seconds_of(side: str) -> float:
            where = scratch / f"{next(numbers):03d}-{side}"
            where.mkdir()
            args = arguments(where, registry, dtype=machine_type())
            started = time.perf_counter()
            with bare(where, args, adapters) if side == "bare" else _ours(where, registry) as url:
                _complete(url)
                return round(time.perf_counter() - started, 1)

        seconds = interleave({side: partial(seconds_of, side) for side in SIDES}, options.rounds_of(SIDES))
    median = medians(seconds, 1)
    return {
        "rounds": {name: len(values) for name, values in seconds.items()},
        "dtype": machine_type(),
        "median_seconds": median,
        "spread_seconds": spread(seconds, 1),
        "ratio": ratio(median, "ours", "bare"),
    }


@contextmanager
def _ours(where: Path, registry: Path) -> Iterator[str]:
    """`raytune-ft serve`, as it is typed."""
    port = free_port()
    command = [sys.executable, "-m", "raytune_ft", "serve", "--registry", str(registry), "--port", str(port)]
    with running_side([*command, "--max-model-len", str(MAX_MODEL_LEN)], where / "ours") as check:
        url = f"http://127.0.0.1:{port}/v1"
        wait_until_answering(url, check)
        yield url


def _complete(url: str) -> None:
    body = json.dumps({"model": NAME, "prompt": "Review: fine.\nSentiment:", "max_tokens": 1}).encode()
    request = urllib.request.Request(f"{url}/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()


def rows(result: dict[str, Any]) -> list[Row]:
    """One line."""
    median = result["median_seconds"]
    measured = f"{result['ratio']:.2f} ({median['ours']:.0f} s / {median['bare']:.0f} s)"
    what = "`raytune-ft serve` to the first answer / bare `vllm serve`"
    return [Row(what, f"at most {GOAL}", measured, result["ratio"] <= GOAL)]


START = Measure(measure, rows, SIDES)
