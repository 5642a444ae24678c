"""A lane's end of the line to the dispatcher."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Any

import ray

from raytune_ft.execution.lanes.lane_scheduler import SILENT_S
from raytune_ft.training.lane.orders import Order, Quit, Start
from raytune_ft.training.outcome import Outcome

POLL_S = 5.0
"""A lane asks for orders at least so often, which is how the dispatcher knows that it lives."""
CUT_OFF_S = SILENT_S - 10.0
"""A lane without answers for so long asks whether its trials are still its own, and ends where they are not or nobody
says so: they may soon be another's, and writing a checkpoint takes time."""
ANSWER_S = 5.0
"""How long it waits for that. Where all processes stood still, as in a suspended job, the answer comes at once."""


class LaneClient:
    """Talks to the dispatcher from threads of its own, so that the training loop never waits for an answer.

    Args:
        dispatcher: Handle of the Dispatcher.
        lane: Number of the lane.
    """

    def __init__(self, dispatcher: Any, lane: int) -> None:
        self._dispatcher, self._lane = dispatcher, lane
        self._heard_s = time.monotonic()  # by the dispatcher, or later
        self._cut_off = False
        self._session: int = ray.get(dispatcher.hello.remote(lane))
        self._inbox: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._taken = 0  # starts that the loop took
        self._credit = 0  # the last that the dispatcher was told
        self._outbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        threading.Thread(target=self._talk, name="reports", daemon=True).start()

    def ready(self) -> None:
        """The base is loaded."""
        self._outbox.put((self._dispatcher.ready,))

    def orders(self, free: int, wait_s: float) -> list[Order]:
        """What came since the last call, in order; waits up to `wait_s` for the first.

        Args:
            free: How many more trials the lane could train at once.
            wait_s: 0 returns at once.
        """
        if not self.in_touch():
            return [Quit()]
        # Counted from the session's beginning, so that starts that are under way are not forgotten.
        if self._taken + free != self._credit:
            self._credit = self._taken + free
            self._outbox.put((self._dispatcher.credit, self._credit))
        orders: list[Order] = []
        try:
            orders.append(self._inbox.get(timeout=wait_s) if wait_s > 0 else self._inbox.get_nowait())
            while True:
                orders.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        self._taken += sum(isinstance(order, Start) for order in orders)
        return orders

    def in_touch(self) -> bool:
        """Whether the dispatcher can't have taken the lane's trials from it; once False, always False."""
        if not self._cut_off and time.monotonic() - self._heard_s > CUT_OFF_S:
            self._cut_off = not self._keeps_trials()
        return not self._cut_off

    def report(self, trial: str, report: dict[str, Any]) -> None:
        """A line of `metrics.jsonl`. The trial then waits for `GoOn` or `Drop`."""
        self._outbox.put((self._dispatcher.report, trial, report))

    def ended(self, trial: str, outcome: Outcome) -> None:
        """The trial ended, and `outcome.json` says so; its last report, if any, was given before."""
        self._outbox.put((self._dispatcher.ended, trial, outcome))

    def bye(self) -> None:
        """The loop has ended. Returns when the dispatcher knows, or is no more."""
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self._dispatcher.bye.remote(self._lane, self._session))

    def _keeps_trials(self) -> bool:
        asked_s = time.monotonic()
        try:
            kept: bool = ray.get(self._dispatcher.keeps.remote(self._lane, self._session), timeout=ANSWER_S)
        except ray.exceptions.RayError:  # GetTimeoutError too
            return False
        self._heard_s = asked_s
        return kept

    def _talk(self) -> None:
        """Says one thing after the other: an async actor may take up calls in another order than they were made."""
        while True:
            method, *rest = self._outbox.get()
            try:
                ray.get(method.remote(self._lane, self._session, *rest))
            except ray.exceptions.RayError:  # the other thread notices it too
                return

    def _listen(self) -> None:
        while not self._cut_off:  # else it would be given trials
            asked_s = time.monotonic()
            try:
                orders = ray.get(self._dispatcher.orders.remote(self._lane, self._session, POLL_S))
                self._heard_s = max(self._heard_s, asked_s)
            except ray.exceptions.RayError:  # nobody is left to hand out trials
                orders = [Quit()]
            for order in orders:
                self._inbox.put(order)
                if isinstance(order, Quit):
                    return
