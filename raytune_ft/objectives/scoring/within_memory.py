"""Halves batches for which memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

from raytune_ft.errors import RaytuneError
from raytune_ft.hardware.out_of_memory import out_of_memory_reason
from raytune_ft.objectives.scoring.reading import Reading

Read = Callable[[Sequence[Reading]], list[list[float]]]


def padded(batch: Sequence[Reading]) -> int:
    """Returns the number of tokens of a batch including padding."""
    return len(batch) * max(len(reading.ids) for reading in batch)


class WithinMemory:
    """Runs batches, and halves one that does not fit into memory and from then on all that are as large.

    Args:
        read: Runs one forward pass.
        log: Receives a line if memory runs out.
    """

    def __init__(self, read: Read, log: Callable[[str], None] = lambda line: None) -> None:
        self._read, self._log = read, log
        self._too_many: int | None = None

    def __call__(self, batch: Sequence[Reading]) -> list[list[float]]:
        """Returns the results of `read`; raises RaytuneError if a row doesn't fit even alone."""
        if len(batch) > 1 and self._too_many is not None and padded(batch) >= self._too_many:
            return self._halves(batch)
        try:
            return self._read(batch)
        except (RuntimeError, MemoryError) as error:
            reason = out_of_memory_reason(error)
            if reason is None:
                raise
            shown = reason.partition(";")[0]
        # This is outside the except block, because the traceback keeps the tensors alive.
        _give_back()
        longest = max(len(reading.ids) for reading in batch)
        if len(batch) == 1:
            raise RaytuneError(f"memory runs out on a single row of {longest} tokens ({shown}); use a larger machine")
        self._log(f"memory ran out on {len(batch)} rows of up to {longest} tokens; going on with half as many")
        self._too_many = min(padded(batch), self._too_many or padded(batch))
        return self._halves(batch)

    def _halves(self, batch: Sequence[Reading]) -> list[list[float]]:
        half = len(batch) // 2
        return self(batch[:half]) + self(batch[half:])


def _give_back() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
