"""Two sides that are asked in turns, never at once: the same requests, and who begins changes from round to round.

A worker of vLLM 0.29 looks for work without a pause for a second after its last request; the next turn waits for that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from measures.rounds import interleave, say

from serving_measures.client import Asked, Heard, ask_all
from serving_measures.summary import failures

REST_S = 1.5


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
        rest_s: Between turns.
    """

    urls: Mapping[str, str]
    rest_s: float = REST_S
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
            time.sleep(self.rest_s)
            heard, seconds = asyncio.run(ask_all(self.urls[of], requests[done[of]], at_once))
            done[of] += 1
            self.heard += heard
            return Round(heard, seconds)

        asked = list(sides or self.urls)
        return interleave({of: partial(side, of) for of in asked}, dict.fromkeys(asked, len(requests)))
