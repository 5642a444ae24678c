"""Finds how many trials a lane trains together under `packed: auto`, by measuring which number is fastest and fits."""

from __future__ import annotations

from typing import Literal

from raytune_ft.training.lane.ranks import Ranks
from raytune_ft.training.main_memory import main_memory

GAIN = 1.05
"""Required speedup in tokens per second over a pack of half the size; otherwise the size is given up."""
SMALL = 768
"""Tokens of a pass below which trials are packed from the start, because such passes leave even two cores waiting."""
STEPS = 4
"""Steps by which a size is judged; the first is not counted, because it compiles kernels for its shapes."""
PATIENCE_S = 20.0
"""Seconds that a size trains at least on a CPU before it doubles, since starting further trials takes CPU seconds."""
MOST = 64


class PackSize:
    """Doubles the pack while steps get faster, and halves it again once they don't.

    It begins with as many trials as fill a small pass. Only real training steps are measured.

    Args:
        packed: The runner's setting; a number fixes the size.
        most: Most trials that may be running at once.
        device: Device whose memory must hold a doubled pack.
        ranks: The lane's ranks; the first one's clock and memory decide for all.

    Attributes:
        limit: Number of trials that train in one pass; further ones wait.
    """

    def __init__(self, packed: Literal["auto"] | int, most: int, device: str, ranks: Ranks) -> None:
        self.limit = packed if isinstance(packed, int) else 1
        self._settled = isinstance(packed, int)
        self._most, self._device, self._ranks = min(most, MOST), device, ranks
        self._begun = False
        self._seen, self._until = 0, STEPS
        self._spent_s = 0.0
        self._rate = 0.0  # tokens per second of the fastest step at this limit
        self._half_rate = 0.0  # the same for the size before

    def begins(self, tokens: float) -> None:
        """Chooses the initial size when the first trial starts, which has about `tokens` tokens in a pass."""
        if self._settled or self._begun:
            return
        self._begun = True
        limit = 1
        while limit * 2 <= self._most and limit * tokens < SMALL:
            limit *= 2
        self.limit = self._ranks.share(limit if has_room(self._device) else 1)

    def measured(self, trials: int, tokens: int, seconds: float) -> None:
        """Records the time of a step of `trials` trials with `tokens` tokens on this rank, and may change the size."""
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
        """Halves the size for good after memory ran out in a pass of several trials."""
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
        """Returns the number of further steps before this size is judged; 0 if it is slower and will be given up."""
        if self._device != "cpu" or self._rate < GAIN * self._half_rate or self.limit * 2 > self._most:
            return 0
        return int(max(0.0, PATIENCE_S - self._spent_s) * self._seen / self._spent_s)


def has_room(device: str) -> bool:
    """Tells whether as much memory is free as this process holds, which is the most that a doubled pack needs."""
    import torch

    if device != "cpu":
        free, _ = torch.cuda.mem_get_info()
        return may_double(free, torch.cuda.max_memory_allocated(), on_gpu=True)
    import psutil

    return may_double(main_memory().free, int(psutil.Process().memory_info().rss), on_gpu=False)


def may_double(free: float, held: float, *, on_gpu: bool) -> bool:
    """Tells whether a worker that holds `held` bytes may double its pack; more must be free in shared main memory."""
    return free > (held if on_gpu else 2 * held)
