"""Two sides that are asked in turns, never at once: the same requests, and who begins changes from round to round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from measures.rounds import interleave, say

from serving_measures.client import Asked, Heard, ask_all
from serving_measures.summary import failures


@dataclass
class Round:
    """What one side did with one round's requests."""

    heard: list[Heard]
    seconds: float

    def __str__(self) -> str:
        wrong = failures(self.heard)
        return f"{len(self.heard)} requests, {self.seconds:.2f} s" + (f", {wrong}" if wrong else "")


@dataclass
class Turns:
    """Asks the sides.

    Args:
        urls: Side -> its URL.
        rounds: Rounds of each.
    """

    urls: Mapping[str, str]
    rounds: int
    heard: list[Heard] = field(default_factory=list)
    """Everything that was heard, of all cells and sides."""

    def cell(
        self, name: str, requests: Callable[[int], Sequence[Asked]], at_once: int, sides: Sequence[str] | None = None
    ) -> dict[str, list[Round]]:
        """Asks each side the round's requests, round after round.

        Args:
            name: Said aloud.
            requests: Number of the round -> what is asked in it.
            at_once: Requests under way.
            sides: Of them all, by default.
        """
        say(f" {name}")
        done = dict.fromkeys(self.urls, 0)

        def side(of: str) -> Round:
            heard, seconds = asyncio.run(ask_all(self.urls[of], requests(done[of]), at_once))
            done[of] += 1
            self.heard += heard
            return Round(heard, seconds)

        asked = list(sides or self.urls)
        return interleave({of: lambda of=of: side(of) for of in asked}, dict.fromkeys(asked, self.rounds))
