"""The client with which a lane talks to the dispatcher."""

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
"""Seconds after which a lane asks for orders again, which tells the dispatcher that it is alive."""
CUT_OFF_S = SILENT_S - 10.0
"""Seconds without an answer after which a lane asks whether it still has its trials. It ends where it does not, or
where nobody answers: another lane may soon train them, and writing a checkpoint takes time."""
ANSWER_S = 5.0
"""Seconds that it waits for this answer. After a suspension of the whole job the answer comes at once."""


class LaneClient:
    """Talks to the dispatcher from threads of its own, so that the training loop never waits for an answer.

    Args:
        dispatcher: Handle of the Dispatcher.
        lane: Number of the lane.
    """

    def __init__(self, dispatcher: Any, lane: int) -> None:
        self._dispatcher, self._lane = dispatcher, lane
        self._heard_s = time.monotonic()  # the dispatcher heard from the lane then, or later
        self._cut_off = False
        self._session: int = ray.get(dispatcher.hello.remote(lane))
        self._inbox: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._taken = 0  # number of starts that the training loop took
        self._credit = 0  # the credit that the dispatcher was last told
        self._outbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        threading.Thread(target=self._talk, name="reports", daemon=True).start()

    def ready(self) -> None:
        """Tells the dispatcher that the base model is loaded."""
        self._outbox.put((self._dispatcher.ready,))

    def orders(self, free: int, wait_s: float) -> list[Order]:
        """Returns the orders that came since the last call, the oldest first.

        Args:
            free: How many more trials the lane could train at once.
            wait_s: Seconds to wait for the first order; 0 returns at once.
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
        """Returns whether the lane surely still has its trials; once False, always False."""
        if not self._cut_off and time.monotonic() - self._heard_s > CUT_OFF_S:
            self._cut_off = not self._keeps_trials()
        return not self._cut_off

    def report(self, trial: str, report: dict[str, Any]) -> None:
        """Sends a report, a line of `metrics.jsonl`. The trial then waits for `GoOn` or `Drop`."""
        self._outbox.put((self._dispatcher.report, trial, report))

    def ended(self, trial: str, outcome: Outcome) -> None:
        """Says that the trial ended; `outcome.json` and its last report, if any, were written and sent before."""
        self._outbox.put((self._dispatcher.ended, trial, outcome))

    def bye(self) -> None:
        """Says that the training loop has ended; returns when the dispatcher knows, or is gone."""
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
        """Sends one message at a time: an async actor may start calls in another order than they were made."""
        while True:
            method, *rest = self._outbox.get()
            try:
                ray.get(method.remote(self._lane, self._session, *rest))
            except ray.exceptions.RayError:  # the listening thread notices it too
                return

    def _listen(self) -> None:
        while not self._cut_off:  # once cut off, it must not ask, or it would be given trials
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
