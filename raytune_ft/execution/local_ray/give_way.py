"""Keeps processes that only wait, yet wake a hundred times a second, from interrupting those that compute."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def giving_way() -> Iterator[None]:
    """Puts processes that this thread starts in the block into Linux's SCHED_BATCH class.

    On waking, these wait for the next tick instead of preempting others at once. A training step is thousands of short
    parallel regions; each time one of its threads is preempted, the others wait for it. On other systems than Linux,
    and where the system forbids it, nothing is changed.
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
