"""From the move of the champion to the first answer of a version that the engine has never loaded."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from measures.options import Measure, Options, Row
from measures.processes import SideFailed
from measures.rounds import say

from raytune_ft.registry.store import Registry
from serving_measures.adapters import ALL_LINEAR, add_random
from serving_measures.client import Asked, Heard, ask, open_session
from serving_measures.endpoints import NAME, arguments, ours, prompts
from serving_measures.summary import milliseconds

SIDES = ("first_answer",)
GOAL_S = 2.0
_ALIAS = f"{NAME}:movies"
_GIVE_UP_S = 60.0


def measure(options: Options) -> dict[str, Any]:
    """A round: a new version is added, the champion is moved to it, and the alias is asked until it answers."""
    rounds = options.rounds_of(SIDES)["first_answer"]
    seconds, tries, moves, loaded = [], [], [], []
    with options.scratch("first_answer") as scratch:
        registry = Registry(scratch / "registry")
        _add(registry, scratch, 0)
        registry.set_alias("movies", "champion", 1)
        with ours(arguments(scratch, registry.root)) as url:
            asked = [Asked(_ALIAS, prompt, 1) for prompt in prompts(rounds + 1)]
            asyncio.run(_ask(url, asked[0]))
            for number in range(rounds):
                version = _add(registry, scratch, number + 1)
                started = time.perf_counter()
                registry.set_alias("movies", "champion", version)
                moves.append(time.perf_counter() - started)
                tries.append(asyncio.run(_ask_until(url, asked[number + 1], f"{_ALIAS}@{version}")))
                seconds.append(time.perf_counter() - started)
                loaded.append(asyncio.run(_ask(url, asked[number + 1])).seconds)
                say(f"  round {number + 1}: {seconds[-1]:.3f} s")
    return {
        "rounds": rounds,
        "median_s": round(statistics.median(seconds), 3),
        "spread_s": [round(min(seconds), 3), round(max(seconds), 3)],
        "requests_until_then": max(tries),
        "move_ms": milliseconds(moves),
        "loaded_answer_ms": milliseconds(loaded),
    }


def _add(registry: Registry, scratch: Any, seed: int) -> int:
    return add_random(registry, "movies", scratch / "adapters", seed, rank=8, modules=ALL_LINEAR)


async def _ask(url: str, asked: Asked) -> Heard:
    async with open_session() as session:
        heard = await ask(session, url, asked)
    if heard.failure:
        raise SideFailed(f"{asked.model}: {heard.failure}")
    return heard


async def _ask_until(url: str, asked: Asked, model: str) -> int:
    """How many requests it took until the model answered."""
    gives_up = time.monotonic() + _GIVE_UP_S
    for number in range(1, 1_000_000):
        if (await _ask(url, asked)).model == model:
            return number
        if time.monotonic() >= gives_up:
            break
    raise SideFailed(f"{model} did not answer within {_GIVE_UP_S:.0f} s")


def rows(result: dict[str, Any]) -> list[Row]:
    """One line."""
    return [
        Row(
            "from the move of the champion to the first answer of a version never loaded before",
            f"under {GOAL_S:.0f} s",
            f"{result['median_s']:.2f} s ({result['spread_s'][0]:.2f} to {result['spread_s'][1]:.2f}); "
            f"an answer of a loaded one {result['loaded_answer_ms']['median'] / 1000:.2f} s",
            result["median_s"] < GOAL_S,
        )
    ]


FIRST_ANSWER = Measure(measure, rows, SIDES)
