"""Two sides that are asked in turns, never at once: the same requests, and who begins changes from round to round."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

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
    """

    urls: Mapping[str, str]
    heard: list[Heard] = field(default_factory=list)
    """Everything that was heard, of all cells and sides."""

    def cell(
        self, name: str, requests: Sequence[Sequence[Asked]], at_once: int, sides: Sequence[str] | None = None
    ) -> dict[str, list[Round]]:
        """Asks each side the round's requests, round after round.

        Args:
            name: Said aloud.
            requests: What is asked in each round.
            at_once: Requests under way.
            sides: Of them all, by default.
        """
        say(f" {name}")
        done = dict.fromkeys(self.urls, 0)

        def side(of: str) -> Round:
            heard, seconds = asyncio.run(ask_all(self.urls[of], requests[done[of]], at_once))
            done[of] += 1
            self.heard += heard
            return Round(heard, seconds)

        asked = list(sides or self.urls)
        return interleave({of: partial(side, of) for of in asked}, dict.fromkeys(asked, len(requests)))
