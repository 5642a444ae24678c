"""One stream of events with many listeners."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from raytune_ft.events.kinds import Event, Listener


class EventStream:
    """Tells each listener of each event, in the order of the listeners.

    Threads may tell events at the same time: the listeners hear one after the other.

    Args:
        listeners: They are called in this order.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = tuple(listeners)
        self._lock = threading.RLock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            for listener in self._listeners:
                listener(event)


def nobody(event: Event) -> None:
    """A listener that does nothing."""
