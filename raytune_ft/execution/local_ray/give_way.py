"""Processes that only wait, and wake a hundred times a second each, kept from breaking into those that compute."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def giving_way() -> Iterator[None]:
    """What this thread starts in the block belongs to Linux's batch class: on waking, it waits for the next tick.

    A training step is thousands of short parallel regions; each time one of its threads is put aside, the others wait
    for it. Elsewhere than on Linux, and where the system does not let it, nothing is changed.
    """
    before = None
    with contextlib.suppress(AttributeError, OSError):
        before = os.sched_getscheduler(0)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, before, os.sched_param(0))
