"""Time to the first token of a stream, one request at a time, of our endpoint and of bare `vllm serve` in turns."""

from __future__ import annotations

import statistics
from typing import Any

from measures.options import Measure, Options, Row

from serving_measures.client import Asked
from serving_measures.endpoints import prompts, ray_settings
from serving_measures.sides import Round, Turns
from serving_measures.summary import failures, good, milliseconds
from serving_measures.throughput import MODELS, both_sides

SIDES = ("first_token",)
PAIRS = 16
"""Requests of a round, one after the other."""
MAX_TOKENS = 3
GOAL_MS, GOAL_PART = 10.0, 0.05


def measure(options: Options) -> dict[str, Any]:
    """In each round each side is asked the same, one request at a time."""
    rounds = options.rounds_of(SIDES)["first_token"]
    models: dict[str, Any] = {}
    with options.scratch("first_token") as scratch, both_sides(scratch) as urls:
        settings = ray_settings()
        turns = Turns(urls)
        fresh = iter(prompts(rounds * PAIRS * len(MODELS)))
        for name, model in MODELS.items():
            asked = [[Asked(model, next(fresh), MAX_TOKENS, stream=True) for _ in range(PAIRS)] for _ in range(rounds)]
            models[name] = compare(turns.cell(name, asked, at_once=1))
    return {
        "rounds": rounds,
        "ray_settings": settings,
        "requests_of_a_round": PAIRS,
        "failures": failures(turns.heard),
        "models": models,
    }


def compare(found: dict[str, list[Round]]) -> dict[str, Any]:
    """Both sides' times, and what ours adds: the median of the differences of the pairs, which asked the same."""
    times = {side: [each.first_s for one in rounds for each in good(one.heard)] for side, rounds in found.items()}
    added = [
        1000 * (mine.first_s - other.first_s)
        for our_round, bare_round in zip(found["ours"], found["bare"], strict=True)
        for mine, other in zip(our_round.heard, bare_round.heard, strict=True)
        if not mine.failure and not other.failure
    ]
    return {
        **{f"{side}_ms": milliseconds(values) for side, values in times.items()},
        "added_ms": round(statistics.median(added), 2),
        "added_part": round(statistics.median(added) / (1000 * statistics.median(times["bare"])), 3),
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """A line for each model."""
    return [
        Row(
            f"time to first token added, 1 concurrent, {name}",
            f"under {GOAL_MS:.0f} ms or {GOAL_PART:.0%}",
            f"{found['added_ms']:.1f} ms, {found['added_part']:.0%} "
            f"(median {found['ours_ms']['median']:.0f} ms against {found['bare_ms']['median']:.0f} ms)",
            reaches(found) and not result["failures"],
        )
        for name, found in result["models"].items()
    ]


def reaches(found: dict[str, Any]) -> bool:
    """Whether what is added is within the goal."""
    return bool(found["added_ms"] < GOAL_MS or found["added_part"] < GOAL_PART)


FIRST_TOKEN = Measure(measure, rows, SIDES)
