"""Finds earlier champions in the journal, which may answer while the present champion can't be served."""

from __future__ import annotations

from collections.abc import Sequence

from raytune_ft.registry.journal import Move
from raytune_ft.registry.traffic import CHAMPION


def past_champions(moves: Sequence[Move]) -> tuple[int, ...]:
    """Returns earlier champions, the newest first, without those that a rollback replaced.

    Args:
        moves: The adapter's journal, the oldest move first. A move that was not carried out counts too, since its
            `before` was the champion all the same.
    """
    found: dict[int, None] = {}
    for move in moves:
        if move.alias == CHAMPION and type(move.before) is int:
            found.pop(move.before, None)
            if move.action != "rollback":
                found[move.before] = None
    return tuple(reversed(found))


def had_champion(moves: Sequence[Move]) -> bool:
    """Tells whether the adapter ever had a champion."""
    return any(move.alias == CHAMPION and move.action != "not_carried_out" for move in moves)
