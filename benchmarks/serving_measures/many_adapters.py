"""100 adapters in the registry, 8 loaded at once, requests after Zipf's law: errors, and what a swap costs."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from measures.options import Measure, Options, Row
from measures.rounds import say

from raytune_ft.registry.store import Registry
from serving_measures.adapters import add_random
from serving_measures.client import Asked, Heard, ask_all
from serving_measures.endpoints import NAME, arguments, ours, prompts
from serving_measures.summary import failures, good, milliseconds

SIDES = ("many_adapters",)
ADAPTERS, LOADED, CLIENTS = 100, 8, 4
_ALONE = 0.3
"""Part of the requests that come one at a time, for one token each: there it is known which of them needs a swap."""
_CHECKED = 8
_SEED = 0


def measure(options: Options) -> dict[str, Any]:
    """One round: traffic of several clients, then of one; some adapters are asked the same before and after."""
    names = [f"adapter-{number:03d}" for number in range(ADAPTERS)]
    with options.scratch("many_adapters") as scratch:
        registry = Registry(scratch / "registry")
        for seed, name in enumerate(names):
            add_random(registry, name, scratch / "adapters", seed)
            registry.set_alias(name, "champion", 1)
        args = arguments(scratch, registry.root, max_adapters=LOADED, max_loaded_adapters=LOADED)
        with ours(args) as url:
            probes = [Asked(f"{NAME}:{name}", prompts(1)[0], 2) for name in names[:: ADAPTERS // _CHECKED][:_CHECKED]]
            before = asyncio.run(ask_all(url, probes, 1))[0]
            traffic = zipf_traffic(names, options.requests)
            alone = round(_ALONE * len(traffic))
            together, seconds = asyncio.run(ask_all(url, traffic[alone:], CLIENTS))
            say(f"  {len(together)} requests of {CLIENTS} clients: {seconds:.1f} s, {failures(together)}")
            after = asyncio.run(ask_all(url, probes, 1))[0]
            one_by_one, _ = asyncio.run(ask_all(url, [replace(each, max_tokens=1) for each in traffic[:alone]], 1))
    heard = [*before, *together, *after, *one_by_one]
    named = [f"{each.asked.model}@1" == each.model for each in good(heard)]
    return {
        "rounds": 1,
        "adapters": ADAPTERS,
        "loaded_at_once": LOADED,
        "requests": len(traffic),
        "clients": CLIENTS,
        "requests_per_s": round(len(together) / seconds, 2),
        "adapters_asked": len({each.model for each in traffic}),
        "failures": failures(heard),
        "answered_by_another": named.count(False),
        "answers_changed": sum(one.text != two.text for one, two in zip(before, after, strict=True)),
        **swaps(one_by_one, [each.asked.model for each in after]),
    }


def zipf_traffic(names: Sequence[str], number: int) -> list[Asked]:
    """Requests whose adapter of rank k is asked 1/k as often as the first; short answers of 1 to 4 tokens."""
    draw = random.Random(_SEED)
    order = draw.sample(list(names), len(names))
    chosen = draw.choices(order, [1 / rank for rank in range(1, len(order) + 1)], k=number)
    words = prompts(number)
    return [Asked(f"{NAME}:{name}", word, draw.randint(1, 4)) for name, word in zip(chosen, words, strict=True)]


def swaps(heard: Sequence[Heard], before: Sequence[str], loaded: int = LOADED) -> dict[str, Any]:
    """Times of requests to a version that is loaded, and to one that is not, of one client's requests in their order.

    Args:
        heard: The requests.
        before: Models that were asked before, the last one last.
        loaded: Versions that are held; the least recently used goes.
    """
    held: OrderedDict[str, None] = OrderedDict()
    times: dict[bool, list[float]] = {True: [], False: []}
    for model, each in [*((model, None) for model in before), *((each.asked.model, each) for each in heard)]:
        if each is not None and not each.failure:
            times[model in held].append(each.seconds)
        held[model] = None
        held.move_to_end(model)
        if len(held) > loaded:
            held.popitem(last=False)
    result: dict[str, Any] = {"loaded_requests": len(times[True]), "swapped_requests": len(times[False])}
    if times[True] and times[False]:
        result |= {"loaded_ms": milliseconds(times[True]), "swapped_ms": milliseconds(times[False])}
        result["swap_ms"] = round(1000 * (statistics.median(times[False]) - statistics.median(times[True])), 1)
    return result


def rows(result: dict[str, Any]) -> list[Row]:
    """Errors, and the time of a swap."""
    wrong = sum(result["failures"].values()) + result["answered_by_another"] + result["answers_changed"]
    what = f"{result['adapters']} adapters, {result['loaded_at_once']} loaded at once"
    lines = [Row(f"{what}: errors of {result['requests']} requests after Zipf", "0", str(wrong), wrong == 0)]
    if "swap_ms" in result:
        lines.append(
            Row(
                f"{what}: a swap",
                "stated",
                f"{result['swap_ms']:.0f} ms (a request to a loaded one {result['loaded_ms']['median']:.0f} ms)",
            )
        )
    return lines


MANY_ADAPTERS = Measure(measure, rows, SIDES)
