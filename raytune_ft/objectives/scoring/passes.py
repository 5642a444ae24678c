"""The order in which rows are scored."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Pass = TypeVar("Pass")


def in_batches(
    passes: Sequence[Pass], length: Callable[[Pass], int], batch_size: int, told: Callable[[int, int], None], rows: int
) -> Iterator[list[Pass]]:
    """Yields the passes in batches of similar length, and says after each batch how far it is.

    The batches come in random order rather than by length, so that the time of those that are done tells how long the
    rest will take.

    Args:
        passes: What is to be read; a row may take several.
        length: Returns the tokens of a pass.
        batch_size: Passes of a batch.
        told: Called with the number of rows done and of all rows.
        rows: Number of all rows.
    """
    ordered = sorted(passes, key=length)
    starts, done = list(range(0, len(ordered), batch_size)), 0
    random.Random(0).shuffle(starts)
    for start in starts:
        batch = ordered[start : start + batch_size]
        yield batch
        done += len(batch)
        told(done * rows // len(ordered), rows)
