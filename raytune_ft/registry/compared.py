"""Which champion a version was compared with: a move that follows from the comparison needs that one still to be it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytune_ft.errors import RaytuneError

_GATE = "no_worse"
CHAMPION_KEY = "champion"
"""Where the gate's verdict names the version."""


@dataclass(frozen=True)
class Compared:
    """The champion of the comparison."""

    champion: int | None
    """Its version; None where there was none."""

    @property
    def words(self) -> str:
        """`champion 3`, or `no champion`."""
        return "no champion" if self.champion is None else f"champion {self.champion}"


class ChampionMovedError(RaytuneError):
    """The champion is not the one of the comparison any more; nothing was changed."""

    def __init__(self, adapter: str, compared: Compared, now: Compared) -> None:
        self.adapter, self.compared, self.now = adapter, compared, now
        super().__init__(adapter, compared, now)  # args rebuild the error on the other side of a pickle

    def __str__(self) -> str:
        return f"{self.adapter}: was compared with {self.compared.words}, there is {self.now.words} now"


def compared_in(gates: Mapping[str, Any]) -> Compared | None:
    """What a manifest's gates say; None where the comparison was left out, or was not recorded."""
    verdict = gates.get(_GATE)
    if not isinstance(verdict, Mapping) or CHAMPION_KEY not in verdict:
        return None
    version = verdict[CHAMPION_KEY]
    return Compared(version if type(version) is int else None)


def check_compared(adapter: str, compared: Compared | None, champion: int | None) -> None:
    """Raises ChampionMovedError where another one is champion now; the caller holds the adapter's lock."""
    if compared is not None and compared.champion != champion:
        raise ChampionMovedError(adapter, compared, Compared(champion))
