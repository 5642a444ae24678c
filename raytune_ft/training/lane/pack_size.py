"""How many trials a lane trains together under `packed: auto`: as many as are measured to be faster, and fit."""

from __future__ import annotations

from typing import Literal

from raytune_ft.training.lane.ranks import Ranks

GAIN = 1.05
"""Tokens per second of a pack over those of half the pack, for which the pack may double."""
STEPS = 4
"""Steps by which a size is judged; the first makes kernels for its shapes, and is not counted."""
MOST = 64


class PackSize:
    """Doubles while real steps get faster, and goes back where they do not; nothing is computed only to measure.

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
        self._seen = 0
        self._rate = 0.0  # of the best step at this limit, tokens per second
        self._half_rate = 0.0  # of the size before

    def measured(self, trials: int, tokens: int, seconds: float) -> None:
        """A step of `trials` trials was taken, over `tokens` tokens of this rank, in `seconds`."""
        if self._settled or trials != self.limit:
            return
        self._seen += 1
        if self._seen > 1:
            self._rate = max(self._rate, tokens / seconds)
        if self._seen == STEPS:
            self._decide()

    def does_not_fit(self) -> None:
        """A pass of several trials found no memory."""
        self.limit, self._settled = max(1, self.limit // 2), True

    def _decide(self) -> None:
        faster = self._rate >= GAIN * self._half_rate
        grow = faster and self.limit * 2 <= self._most and has_room(self._device)
        faster, grow = self._ranks.share((faster, grow))
        if grow:
            self._half_rate, self._rate, self._seen = self._rate, 0.0, 0
            self.limit *= 2
        else:
            self.limit = self.limit if faster else self.limit // 2
            self._settled = True


def has_room(device: str) -> bool:
    """Whether what this process holds would fit a second time: a doubled pack takes at most that."""
    import torch

    if device != "cpu":
        free, _ = torch.cuda.mem_get_info()
        return free > torch.cuda.max_memory_allocated()
    import psutil

    return bool(psutil.virtual_memory().available > 2 * psutil.Process().memory_info().rss)
