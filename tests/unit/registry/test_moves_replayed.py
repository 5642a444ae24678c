"""The journal tells where everything is, whoever moved at once and wherever a process was killed."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

from raytune_ft.errors import RaytuneError
from raytune_ft.registry import journal, store, traffic
from raytune_ft.registry.journal import Move, read_journal, unsettled
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import canary, read_traffic, set_traffic


def replayed(moves: Iterable[Move]) -> tuple[dict[str, int], Any]:
    """Aliases and traffic rule as the lines alone tell them."""
    lines = list(moves)
    done = [
        move
        for move, following in zip_longest(lines, lines[1:])
        if move.action != "not_carried_out" and (following is None or following.action != "not_carried_out")
    ]
    aliases: dict[str, int] = {}
    rule = None
    for move in done:
        if move.action == "traffic":
            assert move.before == rule or move.after is None  # what a killed canary_end left is taken away later
            rule = move.after
            continue
        assert move.alias is not None and move.before == aliases.get(move.alias)
        if move.alias == "champion" and move.before not in (None, move.after):
            aliases["previous"] = move.before
        aliases[move.alias] = move.after
        if move.action == "canary_end":
            del aliases["challenger"]
            rule = None
    return aliases, rule


def found(registry: Registry) -> tuple[dict[str, int], Any]:
    rule = read_traffic(registry, "movies")
    return registry.aliases("movies"), rule.to_json() if rule else None


def _move_something(registry: Registry, dice: random.Random) -> None:
    steps: list[Callable[[], object]] = [
        lambda: registry.set_alias("movies", "champion", dice.randint(1, 3)),
        lambda: registry.set_alias("movies", "challenger", dice.randint(1, 3)),
        lambda: set_traffic(registry, "movies", canary(dice.randint(0, 100), shadow=dice.random() < 0.5)),
        lambda: set_traffic(registry, "movies", None),
        lambda: registry.rollback("movies"),
        lambda: registry.end_canary("movies"),
    ]
    with suppress(RaytuneError):  # nothing to roll back to, or no challenger: then nothing was moved
        dice.choice(steps)()


def _move_much(root: Path, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(12):
        _move_something(Registry(root), dice)


def _killed_while_moving(root: Path, seed: int) -> None:
    dice = random.Random(seed)
    places = [(store, "write_json"), (traffic, "write_json"), (store, "remove_rule"), (traffic, "remove_rule")]
    end = dice.choice([*places, (journal, "sync_directory"), (os, "write")])
    real = getattr(*end)

    def killed(*arguments: Any) -> None:
        if end[0] is os:  # half a line
            real(arguments[0], arguments[1][: len(arguments[1]) // 2])
        elif dice.random() < 0.3:
            real(*arguments)
        os._exit(9)

    setattr(*end, killed)
    _move_something(Registry(root), dice)
    os._exit(0)


def _run(targets: list[tuple[Callable[..., None], tuple[Any, ...]]], codes: set[int]) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=target, args=arguments) for target, arguments in targets]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert {worker.exitcode for worker in workers} <= codes


def test_processes_that_move_everything_at_once_end_where_the_journal_says(registry: Registry) -> None:
    _run([(_move_much, (registry.root, seed)) for seed in range(4)], {0})
    moves = read_journal(registry, "movies")
    assert found(registry) == replayed(moves)
    assert sum(move.action == "alias" for move in moves) == 18  # as many as the dice asked for: none is lost


def test_processes_killed_anywhere_in_a_move_leave_what_the_journal_says(registry: Registry) -> None:
    dice = random.Random(7)
    for seed in range(50):
        _run([(_killed_while_moving, (registry.root, seed))], {0, 9})
        _move_something(registry, dice)
        if unsettled(registry, "movies") is None:
            assert found(registry) == replayed(read_journal(registry, "movies"))
    actions = [move.action for move in read_journal(registry, "movies")]
    assert actions.count("not_carried_out") >= 3 and "canary_end" in actions  # the dice did kill in between
