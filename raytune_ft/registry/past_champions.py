"""Which versions the journal says were the champion before: who may answer where the present one can't."""

from __future__ import annotations

from collections.abc import Sequence

from raytune_ft.registry.journal import Move
from raytune_ft.registry.traffic import CHAMPION


def past_champions(moves: Sequence[Move]) -> tuple[int, ...]:
    """Versions that were the champion when it moved on, the newest first; one that a rollback left is none.

    Args:
        moves: The adapter's journal, oldest first. Of a move that was not carried out, too, the version before is true.
    """
    found: dict[int, None] = {}
    for move in moves:
        if move.alias == CHAMPION and type(move.before) is int:
            found.pop(move.before, None)
            if move.action != "rollback":
                found[move.before] = None
    return tuple(reversed(found))


def had_champion(moves: Sequence[Move]) -> bool:
    """Whether there was ever one."""
    return any(move.alias == CHAMPION and move.action != "not_carried_out" for move in moves)
