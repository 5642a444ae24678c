"""The actor that lanes and trials' proxies talk to: the lane scheduler, whose callers may wait for news."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from raytune_ft.execution.lanes.entries import LanesNow, Message
from raytune_ft.execution.lanes.lane_host import LaneHost
from raytune_ft.execution.lanes.lane_scheduler import LaneScheduler
from raytune_ft.execution.lanes.recovery.deaths import death_of
from raytune_ft.training.lane.orders import Order, Start
from raytune_ft.training.outcome import Outcome

TICK_S = 1.0

T = TypeVar("T")


class Dispatcher:
    """An async Ray actor; most methods call the `LaneScheduler` method of the same name, which documents them.

    Args:
        lanes: How many lanes there are.
        max_failures: See `LaneScheduler`.
        outage_timeout_s: See `LaneScheduler`.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        lanes: int,
        max_failures: int,
        outage_timeout_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = LaneScheduler(lanes, max_failures, outage_timeout_s, clock)
        self._clock = clock
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._lanes = lanes
        self._host: LaneHost | None = None

    async def knows(self, trial: str) -> bool:
        return self._scheduler.knows(trial)

    async def submit(self, start: Start, owner: str, decided: int) -> None:
        await self._tell(lambda: self._scheduler.submit(start, owner, decided))

    async def next_event(self, trial: str, wait_s: float) -> Message | None:
        """Returns the next message for the trial's owner; None when none came within `wait_s` seconds."""
        return await self._wait(lambda: self._scheduler.event(trial), wait_s)

    async def go_on(self, trial: str) -> None:
        await self._tell(lambda: self._scheduler.go_on(trial))

    async def drop(self, trial: str, owner: str | None = None) -> None:
        await self._tell(lambda: self._scheduler.drop(trial, owner))

    async def hello(self, lane: int) -> int:
        return await self._tell(lambda: self._scheduler.hello(lane))

    async def ready(self, lane: int, session: int) -> None:
        await self._tell(lambda: self._scheduler.ready(lane, session))

    async def credit(self, lane: int, session: int, starts: int) -> None:
        await self._tell(lambda: self._scheduler.credit(lane, session, starts))

    async def orders(self, lane: int, session: int, wait_s: float) -> list[Order]:
        """Returns the orders for the lane; [] when none came within `wait_s` seconds."""
        await self._tell(lambda: self._scheduler.heard(lane, session))
        await self._wait(lambda: self._scheduler.has_orders(lane, session), wait_s)
        self._scheduler.heard(lane, session)
        return self._scheduler.orders(lane, session)

    async def keeps(self, lane: int, session: int) -> bool:
        return await self._tell(lambda: self._scheduler.keeps(lane, session))

    async def report(self, lane: int, session: int, trial: str, metrics: dict[str, Any]) -> None:
        await self._tell(lambda: self._scheduler.report(lane, session, trial, metrics))

    async def ended(self, lane: int, session: int, trial: str, outcome: Outcome) -> None:
        await self._tell(lambda: self._scheduler.ended(lane, session, trial, outcome))

    async def bye(self, lane: int, session: int) -> None:
        await self._tell(lambda: self._scheduler.bye(lane, session))

    async def room(self, unheard: int) -> int:
        return self._scheduler.room(unheard)

    async def notices(self) -> list[str]:
        """Returns the new lines for the user; each is given once."""
        if self._host is None:
            return []
        lines = list(self._host.notices)
        del self._host.notices[: len(lines)]  # lanes add to it from threads of their own
        return [*lines, *filter(None, [self._scheduler.line()])]

    async def now(self) -> LanesNow:
        return self._scheduler.now()

    async def open(self, host: LaneHost) -> None:
        """Starts the lanes on `host`, and keeps them running."""
        self._host = host
        self._tasks = [asyncio.create_task(self._keep(host, lane)) for lane in range(self._lanes)]
        self._tasks.append(asyncio.create_task(self._tick()))

    async def close(self, wait_s: float, *, processes: bool = True) -> None:
        """Tells lanes and proxies that the search is over, and waits until the lanes have ended.

        Args:
            wait_s: Seconds to wait at most.
            processes: Whether to wait for the end of their processes too, which Ray Train checks about once a second.
        """
        await self._tell(self._scheduler.close)
        if not processes:
            await self._wait(self._scheduler.all_left, wait_s)
        elif lanes := self._tasks[:-1]:
            await asyncio.wait(lanes, timeout=wait_s)

    async def _keep(self, host: LaneHost, lane: int) -> None:
        """Starts a new worker group whenever the last one has ended, as long as the scheduler wants one."""
        pause_s: float | None = 0.0
        while pause_s is not None:
            if pause_s and await self._wait(lambda: self._scheduler.over, pause_s):
                return
            try:
                death = await host.run(lane)
            except Exception as error:  # an error that none of its workers raised
                death = death_of(error)
            pause_s = await self._tell(partial(self._scheduler.fell, lane, death))

    async def _tick(self) -> None:
        while True:
            began_s = self._clock()
            await asyncio.sleep(TICK_S)
            late_s = self._clock() - began_s - TICK_S  # large where the job was suspended, and the lanes with it
            await self._tell(partial(self._scheduler.lose_silent, late_s))

    async def _tell(self, change: Callable[[], T]) -> T:
        async with self._changed:
            result = change()
            self._changed.notify_all()
            return result

    async def _wait(self, look: Callable[[], T], wait_s: float) -> T:
        """Returns what `look` returns, as soon as that is true, or else after `wait_s` seconds."""
        async with self._changed:
            try:
                async with asyncio.timeout(wait_s):
                    return await self._changed.wait_for(look)
            except TimeoutError:
                return look()
