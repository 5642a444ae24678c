"""Requests and tokens a second of our endpoint and of bare `vllm serve`, of the base and of an adapter.

Both engines are up, with the same settings; each round asks one, then the other, for the same greedy answers of the
same length (`ignore_eos`) to the same prompts, which no round repeats.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from measures.options import Measure, Options, Row
from measures.processes import SideFailed

from raytune_ft.registry.store import Registry
from serving_measures.adapters import ALL_LINEAR, add_random
from serving_measures.client import Asked
from serving_measures.endpoints import NAME, arguments, bare, ours, prompts, ray_settings
from serving_measures.sides import Round, Turns
from serving_measures.summary import failures, good, paired_ratio

SIDES = ("throughput",)
MODELS = {"base": NAME, "adapter": f"{NAME}:movies@1"}
AT_ONCE = {1: 2, 4: 4, 16: 16}
"""Concurrent requests -> requests of a round."""
MAX_TOKENS = 24
GOAL = 0.95


@contextmanager
def both_sides(scratch: Path) -> Iterator[dict[str, str]]:
    """Our endpoint and the bare one, on one registry with a LoRA of rank 8 on all linears; yields side -> URL."""
    registry = Registry(scratch / "registry")
    add_random(registry, "movies", scratch / "adapters", 0, rank=8, modules=ALL_LINEAR)
    registry.set_alias("movies", "champion", 1)
    args = arguments(scratch, registry.root)
    with ExitStack() as stack:
        ours_url = stack.enter_context(ours(args))
        bare_url = stack.enter_context(bare(scratch, args, {MODELS["adapter"]: registry.path("movies", 1)}))
        urls = {"ours": ours_url, "bare": bare_url}
        warm_up = Turns(urls)
        for model in MODELS.values():
            asked = [Asked(model, prompt, MAX_TOKENS, stream) for prompt in prompts(4) for stream in (False, True)]
            warm_up.cell(f"warm up {model}", [asked], at_once=4)
        if wrong := failures(warm_up.heard):
            raise SideFailed(f"not every warm-up request was answered: {wrong}")
        yield urls


def measure(options: Options) -> dict[str, Any]:
    """Cell by cell, a model and a number of concurrent requests each."""
    rounds = options.rounds_of(SIDES)["throughput"]
    cells: dict[str, Any] = {}
    with options.scratch("throughput") as scratch, both_sides(scratch) as urls:
        settings = ray_settings()
        turns = Turns(urls)
        fresh = iter(prompts(rounds * sum(AT_ONCE.values()) * len(MODELS)))
        for model in MODELS:
            for at_once, number in AT_ONCE.items():
                asked = [[Asked(MODELS[model], next(fresh), MAX_TOKENS) for _ in range(number)] for _ in range(rounds)]
                found = turns.cell(f"{model}, {at_once} concurrent", asked, at_once)
                cells[f"{model}, {at_once} concurrent"] = {"requests_of_a_round": number, **compare(found)}
    return {
        "rounds": rounds,
        "ray_settings": settings,
        "max_tokens": MAX_TOKENS,
        "failures": failures(turns.heard),
        "cells": cells,
    }


def compare(found: dict[str, list[Round]]) -> dict[str, Any]:
    """Speeds of both sides, their ratio, and whether both said the same."""
    speeds = {side: [len(good(each.heard)) / each.seconds for each in rounds] for side, rounds in found.items()}
    result: dict[str, Any] = {
        side: {
            "requests_per_s": round(statistics.median(values), 3),
            "tokens_per_s": round(MAX_TOKENS * statistics.median(values), 1),
            "tokens_per_s_spread": [round(MAX_TOKENS * min(values), 1), round(MAX_TOKENS * max(values), 1)],
        }
        for side, values in speeds.items()
    }
    said = [{each.asked: each.text for one in rounds for each in good(one.heard)} for rounds in found.values()]
    same = [said[0][asked] == said[1][asked] for asked in said[0].keys() & said[1].keys()]
    return {
        **result,
        "ours_to_bare": paired_ratio(speeds["ours"], speeds["bare"]),
        "same_answers": f"{sum(same)} of {len(same)}",
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """A line for each cell."""
    lines = []
    for name, cell in result["cells"].items():
        ratio, ours_, bare_ = cell["ours_to_bare"], cell["ours"], cell["bare"]
        lines.append(
            Row(
                f"throughput, {name}: ours / bare vllm serve",
                f"at least {GOAL}",
                f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['greatest']:.2f}); "
                f"{ours_['tokens_per_s']:.1f} / {bare_['tokens_per_s']:.1f} tokens/s, "
                f"{ours_['requests_per_s']:.2f} / {bare_['requests_per_s']:.2f} requests/s",
                ratio["median"] >= GOAL and not result["failures"],
            )
        )
    return lines


THROUGHPUT = Measure(measure, rows, SIDES)
