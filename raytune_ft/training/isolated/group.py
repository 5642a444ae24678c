"""What every worker of an isolated trial asks Ray Train for, whoever trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray.train


def first_rank() -> bool:
    """Tells whether this worker is the one that writes for all."""
    return bool(ray.train.get_context().get_world_rank() == 0)


@contextmanager
def last_checkpoint() -> Iterator[Path | None]:
    """Gives the directory of the checkpoint that the group goes on from; None where it begins."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as directory:
        yield Path(directory)
