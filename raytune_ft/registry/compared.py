"""Records which champion a version was compared with; a move that relies on it needs that one to be champion still."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytune_ft.errors import RaytuneError

_GATE = "no_worse"
CHAMPION_KEY = "champion"
"""Key of the champion's version in the gate's verdict."""


@dataclass(frozen=True)
class Compared:
    """The champion that a version was compared with."""

    champion: int | None
    """The champion's version; None if there was no champion."""

    @property
    def words(self) -> str:
        """Text for messages: `champion 3`, or `no champion`."""
        return "no champion" if self.champion is None else f"champion {self.champion}"


class ChampionMovedError(RaytuneError):
    """The champion is no longer the one of the comparison; nothing was changed."""

    def __init__(self, adapter: str, compared: Compared, now: Compared) -> None:
        self.adapter, self.compared, self.now = adapter, compared, now
        super().__init__(adapter, compared, now)  # unpickling calls the class with these args

    def __str__(self) -> str:
        return f"{self.adapter}: was compared with {self.compared.words}, there is {self.now.words} now"


def compared_in(gates: Mapping[str, Any]) -> Compared | None:
    """Reads the compared champion from a manifest's gates; None if the comparison was left out or not recorded."""
    verdict = gates.get(_GATE)
    if not isinstance(verdict, Mapping) or CHAMPION_KEY not in verdict:
        return None
    version = verdict[CHAMPION_KEY]
    return Compared(version if type(version) is int else None)


def check_compared(adapter: str, compared: Compared | None, champion: int | None) -> None:
    """Raises ChampionMovedError if another version is champion now; the caller holds the adapter's lock."""
    if compared is not None and compared.champion != champion:
        raise ChampionMovedError(adapter, compared, Compared(champion))
