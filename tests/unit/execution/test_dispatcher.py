"""The dispatcher without Ray: callers wait until there is something for them, and lanes are kept running."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.execution.dispatcher import Dispatcher
from raytune_ft.execution.entries import Death, Ended, Gone, Report
from raytune_ft.paths import RunDirectory
from raytune_ft.training.lane.orders import Quit, Start
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.spec import TrialSpec

EXPERIMENT = Experiment.model_validate({"name": "e", "base_model": "b", "data": {"train": "t"}})
START = Start(TrialSpec.of("0000", {}, EXPERIMENT, RunDirectory(Path("runs/e"))))
DONE = Outcome(OutcomeKind.completed, "ran all 30 steps", 30, 0.3, 9.0)
LONG_S = 30.0


class Host:
    """Stands for the LaneHost; `life` is a worker group's."""

    def __init__(self, life: Callable[[int], Awaitable[Death]]) -> None:
        self.run = life


async def lane_of(dispatcher: Dispatcher, number: int) -> int:
    session = await dispatcher.hello(number)
    await dispatcher.ready(number, session)
    await dispatcher.credit(number, session, 1)
    return session


def test_a_caller_is_woken_by_what_it_waits_for() -> None:
    async def story() -> float:
        dispatcher = Dispatcher(1, 0)
        session = await lane_of(dispatcher, 0)
        began = time.monotonic()
        orders = asyncio.create_task(dispatcher.orders(0, session, LONG_S))
        event = asyncio.create_task(dispatcher.next_event("0000", LONG_S))
        await asyncio.sleep(0)
        assert await event == Gone()  # nobody has submitted it yet
        await dispatcher.submit(START, "proxy", 0)
        assert await orders == [START]
        event = asyncio.create_task(dispatcher.next_event("0000", LONG_S))
        await dispatcher.report(0, session, "0000", {"step": 10})
        assert await event == Report({"step": 10})
        await dispatcher.go_on("0000")
        event = asyncio.create_task(dispatcher.next_event("0000", LONG_S))
        await dispatcher.ended(0, session, "0000", DONE)
        assert await event == Ended(DONE)
        return time.monotonic() - began

    assert asyncio.run(story()) < 1.0


def test_a_caller_for_whom_nothing_comes_is_answered_in_time() -> None:
    async def story() -> None:
        dispatcher = Dispatcher(1, 0)
        session = await dispatcher.hello(0)
        await dispatcher.submit(START, "proxy", 0)
        assert await dispatcher.orders(0, session, 0.01) == []
        assert await dispatcher.next_event("0000", 0.01) is None

    asyncio.run(story())


def test_worker_groups_are_started_until_one_is_told_to_quit() -> None:
    lives: list[int] = []

    async def story() -> None:
        dispatcher = Dispatcher(1, 2)

        async def life(lane: int) -> Death:
            lives.append(lane)
            session = await dispatcher.hello(lane)
            if len(lives) < 3:
                return Death("it was killed")
            assert await dispatcher.orders(lane, session, LONG_S) == [Quit()]
            return Death("its workers ended by themselves")

        await dispatcher.open(Host(life))
        await asyncio.sleep(0.01)
        await dispatcher.close(LONG_S)

    asyncio.run(story())
    assert lives == [0, 0, 0]


def test_where_ray_train_itself_fails_trials_end_instead_of_waiting_for_ever() -> None:
    async def story() -> Any:
        dispatcher = Dispatcher(2, 2)

        async def life(lane: int) -> Death:
            raise RuntimeError("The actor died unexpectedly\nand much more")

        await dispatcher.submit(START, "proxy", 0)
        await dispatcher.open(Host(life))
        return await dispatcher.next_event("0000", LONG_S)

    event = asyncio.run(story())
    assert isinstance(event, Ended)
    assert event.outcome.reason.endswith("Ray Train ended: The actor died unexpectedly")


def test_who_does_not_wait_for_processes_waits_for_the_lanes_to_say_goodbye() -> None:
    async def story() -> list[str]:
        dispatcher = Dispatcher(2, 0)
        ended: list[str] = []

        async def life(lane: int) -> Death:
            session = await dispatcher.hello(lane)
            if lane == 1:
                return Death("it was killed")  # and is not waited for
            assert await dispatcher.orders(lane, session, LONG_S) == [Quit()]
            await asyncio.sleep(0.05)  # its last step
            ended.append("loop")
            await dispatcher.bye(lane, session)
            await asyncio.sleep(LONG_S)
            return Death("its workers ended by themselves")

        await dispatcher.open(Host(life))
        await asyncio.sleep(0.01)
        await dispatcher.close(LONG_S, processes=False)
        ended.append("close")
        return ended

    assert asyncio.run(story()) == ["loop", "close"]


def test_the_trials_that_lanes_want_are_what_they_said_or_a_guess() -> None:
    async def story() -> list[int]:
        dispatcher = Dispatcher(2, 0)
        wanted = [await dispatcher.room(4)]
        session = await dispatcher.hello(0)
        await dispatcher.ready(0, session)
        await dispatcher.credit(0, session, 3)
        wanted.append(await dispatcher.room(4))
        await dispatcher.submit(START, "proxy", 0)
        await dispatcher.ended(0, session, "0000", DONE)  # the lane has yet to say that it has room again
        wanted.append(await dispatcher.room(4))
        return wanted

    assert asyncio.run(story()) == [8, 7, 7]
