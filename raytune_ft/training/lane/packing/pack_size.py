"""How many trials a lane trains together under `packed: auto`: as many as are measured to be faster, and fit."""

from __future__ import annotations

from typing import Literal

from raytune_ft.training.lane.ranks import Ranks
from raytune_ft.training.main_memory import main_memory

GAIN = 1.05
"""Tokens per second of a pack over those of half the pack, for which the pack may double."""
SMALL = 768
"""Tokens; trials with smaller passes are packed from the start, as such passes leave even two cores waiting."""
STEPS = 4
"""Steps by which a size is judged; the first makes kernels for its shapes, and is not counted."""
PATIENCE_S = 20.0
"""On a CPU a size trains at least so long before it doubles: a further trial's process takes seconds of its cores."""
MOST = 64


class PackSize:
    """Begins with small passes filled, doubles while real steps get faster, and goes back where they do not.

    Nothing is computed only to measure.

    Args:
        packed: The runner's setting; a number is taken as it is.
        most: Trials that may be there at once.
        device: Whose memory must hold a doubled pack.
        ranks: The first rank's clock and memory decide for all.

    Attributes:
        limit: Trials that train in one pass; more than these wait.
    """

    def __init__(self, packed: Literal["auto"] | int, most: int, device: str, ranks: Ranks) -> None:
        self.limit = packed if isinstance(packed, int) else 1
        self._settled = isinstance(packed, int)
        self._most, self._device, self._ranks = min(most, MOST), device, ranks
        self._begun = False
        self._seen, self._until = 0, STEPS
        self._spent_s = 0.0
        self._rate = 0.0  # of the best step at this limit, tokens per second
        self._half_rate = 0.0  # of the size before

    def begins(self, tokens: float) -> None:
        """The first trial has about `tokens` tokens a pass."""
        if self._settled or self._begun:
            return
        self._begun = True
        limit = 1
        while limit * 2 <= self._most and limit * tokens < SMALL:
            limit *= 2
        self.limit = self._ranks.share(limit if has_room(self._device) else 1)

    def measured(self, trials: int, tokens: int, seconds: float) -> None:
        """A step of `trials` trials was taken, over `tokens` tokens of this rank, in `seconds`."""
        if self._settled or trials != self.limit:
            return
        self._seen += 1
        self._spent_s += seconds
        if self._seen > 1:
            self._rate = max(self._rate, tokens / seconds)
        if self._seen == STEPS:
            self._until += self._ranks.share(self._steps_of_patience())
        if self._seen == self._until:
            self._decide()

    def does_not_fit(self) -> None:
        """A pass of several trials found no memory."""
        self.limit, self._settled = max(1, self.limit // 2), True

    def _decide(self) -> None:
        faster = self._rate >= GAIN * self._half_rate
        grow = faster and self.limit * 2 <= self._most and has_room(self._device)
        faster, grow = self._ranks.share((faster, grow))
        if grow:
            self._half_rate, self._rate, self._spent_s = self._rate, 0.0, 0.0
            self._seen, self._until = 0, STEPS
            self.limit *= 2
        else:
            self.limit = self.limit if faster else self.limit // 2
            self._settled = True

    def _steps_of_patience(self) -> int:
        """Further steps of this size before it is judged; one that must be given up again is judged soon."""
        if self._device != "cpu" or self._rate < GAIN * self._half_rate or self.limit * 2 > self._most:
            return 0
        return int(max(0.0, PATIENCE_S - self._spent_s) * self._seen / self._spent_s)


def has_room(device: str) -> bool:
    """Whether what this process holds would fit a second time: a doubled pack takes at most that."""
    import torch

    if device != "cpu":
        free, _ = torch.cuda.mem_get_info()
        return may_double(free, torch.cuda.max_memory_allocated(), on_gpu=True)
    import psutil

    return may_double(main_memory().free, int(psutil.Process().memory_info().rss), on_gpu=False)


def may_double(free: float, held: float, *, on_gpu: bool) -> bool:
    """Whether memory that is free lets a worker that holds so much double its pack; main memory is for others too."""
    return free > (held if on_gpu else 2 * held)
