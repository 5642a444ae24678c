"""Promotion under load: clients ask for an adapter by its name while its champion moves back and forth."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from measures.options import Measure, Options, Row
from measures.processes import SideFailed

from raytune_ft.registry.store import Registry
from serving_measures.adapters import add_random
from serving_measures.client import Asked, Heard, ask_all, until
from serving_measures.endpoints import NAME, arguments, ours, prompts
from serving_measures.summary import failures, good, milliseconds

SIDES = ("promotion",)
VERSIONS = (1, 2)
CLIENTS, SECONDS, MOVES = 8, 20.0, 10
MAX_TOKENS = 1
_TRIED, _PROMPTS = 96, 6
_LEAD = 0.5
"""Nats; bfloat16's logits of this model are exact to about 0.1."""
_ALIAS = f"{NAME}:movies"

Known = Mapping[tuple[str, str], str]
"""Concrete model id and prompt -> its greedy answer."""


@dataclass(frozen=True)
class Moved:
    """One move of the champion."""

    version: int
    began: float
    ended: float


def measure(options: Options) -> dict[str, Any]:
    """Rounds of 20 seconds and 10 moves each, on one endpoint."""
    rounds = options.rounds_of(SIDES)["promotion"]
    heard: list[Heard] = []
    moves: list[Moved] = []
    with options.scratch("promotion") as scratch:
        registry = Registry(scratch / "registry")
        for seed in VERSIONS:
            add_random(registry, "movies", scratch / "adapters", seed)
        registry.set_alias("movies", "champion", 1)
        with ours(arguments(scratch, registry.root)) as url:
            known, lead = _greedy_answers(url)
            asked = sorted({prompt for _, prompt in known})
            for _ in range(rounds):
                more, moved = asyncio.run(_under_load(url, registry, asked))
                heard, moves = heard + more, moves + moved
    return {
        "rounds": rounds,
        "clients": CLIENTS,
        "seconds_of_a_round": SECONDS,
        "prompts": len(asked),
        "least_lead_nats": round(lead, 2),
    } | judge(heard, moves, known)


def _greedy_answers(url: str) -> tuple[Known, float]:
    """What each version says to the prompts that it is surest of, and its least lead in them.

    In bfloat16 a token that hardly leads the next best one changes with the rest of the batch: it would prove nothing.
    """
    models = [f"{_ALIAS}@{version}" for version in VERSIONS]
    asked = [Asked(model, prompt, MAX_TOKENS, next_best=True) for prompt in prompts(_TRIED) for model in models]
    heard, _ = asyncio.run(ask_all(url, asked, CLIENTS))
    if wrong := failures(heard):
        raise SideFailed(f"not every request before the moves was answered: {wrong}")
    known, lead = clear_answers(heard, models)
    if lead < _LEAD:
        raise SideFailed(f"the versions are sure of too few prompts: tokens lead by {lead:.2f} nats, not {_LEAD}")
    return known, lead


def clear_answers(heard: Sequence[Heard], models: Sequence[str], wanted: int = _PROMPTS) -> tuple[Known, float]:
    """Of the prompts to which the models say different things, those with the greatest lead; and the least of these."""
    answers: dict[str, dict[str, Heard]] = {}
    for each in heard:
        answers.setdefault(each.asked.prompt, {})[each.asked.model] = each
    leads = {
        prompt: min(each.lead for each in said.values())
        for prompt, said in answers.items()
        if len({each.text for each in said.values()}) == len(models)
    }
    chosen = sorted(leads, key=lambda prompt: -leads[prompt])[:wanted]
    known = {(model, prompt): answers[prompt][model].text for model in models for prompt in chosen}
    return known, min((leads[prompt] for prompt in chosen), default=0.0)


async def _under_load(url: str, registry: Registry, asked: Sequence[str]) -> tuple[list[Heard], list[Moved]]:
    ends = time.perf_counter() + SECONDS
    requests = (Asked(_ALIAS, prompt, MAX_TOKENS) for prompt in itertools.cycle(asked))
    load = asyncio.create_task(ask_all(url, until(lambda: time.perf_counter() >= ends, requests), CLIENTS))
    moves = []
    before = registry.alias("movies", "champion")
    for number in range(MOVES):
        await asyncio.sleep(SECONDS / (MOVES + 1))
        version = VERSIONS[(number + (before == VERSIONS[0])) % 2]
        began = time.perf_counter()
        await asyncio.to_thread(registry.set_alias, "movies", "champion", version)
        moves.append(Moved(version, began, time.perf_counter()))
    heard, _ = await load
    return heard, moves


def judge(heard: Sequence[Heard], moves: Sequence[Moved], known: Known) -> dict[str, Any]:
    """Counts what was wrong; every number but the first two and the moves' should be none."""
    answered = good(heard)
    models = {model for model, _ in known}
    unnamed = [each for each in answered if each.model not in models]
    named = [each for each in answered if each.model in models]
    untrue = [each for each in named if each.text != known[each.model, each.asked.prompt]]
    others = [each for each in untrue if each.text in {known[model, each.asked.prompt] for model in models}]
    return {
        "requests": len(heard),
        "of_each_version": {model: sum(each.model == model for each in named) for model in sorted(models)},
        "failures": failures(heard),
        "named_neither_version": len(unnamed),
        "said_what_the_other_version_says": len(others),
        "said_what_neither_version_says": len(untrue) - len(others),
        "answered_by_the_version_before": sum(_stale(each, moves) for each in named),
        "moves": len(moves),
        "move_ms": milliseconds([each.ended - each.began for each in moves]),
        "answer_ms": milliseconds([each.seconds for each in answered]),
    }


def _stale(heard: Heard, moves: Sequence[Moved]) -> bool:
    """Whether it was sent when a move was done, ended before the next one began, and another version answered."""
    done = [each for each in moves if each.ended <= heard.started]
    later = [each for each in moves if each.ended > heard.started]
    if not done or (later and later[0].began <= heard.started + heard.seconds):
        return False
    return heard.model != f"{_ALIAS}@{done[-1].version}"


def rows(result: dict[str, Any]) -> list[Row]:
    """Failed requests, and answers that are not one version's."""
    failed = sum(result["failures"].values())
    neither = sum(result[name] for name in ("named_neither_version", *_UNTRUE))
    stale = result["answered_by_the_version_before"]
    load = f"{result['clients']} clients, {result['moves']} moves"
    of = f"of {result['requests']}"
    return [
        Row(f"promotion under load ({load}): failed requests", "0", f"{failed} {of}", failed == 0),
        Row("promotion under load: answered by neither version", "0", f"{neither} {of}", neither == 0),
        Row("promotion under load: answered by the version before, after the move", "0", f"{stale} {of}", stale == 0),
    ]


_UNTRUE = ("said_what_the_other_version_says", "said_what_neither_version_says")
PROMOTION = Measure(measure, rows, SIDES)
