"""The dispatcher without Ray: callers wait until there is something for them, and lanes are kept running."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.execution.lanes.dispatcher import Dispatcher
from raytune_ft.execution.lanes.entries import Cause, Death, TrialEnded, TrialGone, TrialReport
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
        self.run, self.notices = life, list[str]()


class FakeTime(selectors.DefaultSelector):
    """An event loop's, which does not wait for the next timer but moves the clock to it."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing will ever happen"
        self.now += max(0.0, timeout)
        return super().select(0)


@pytest.fixture
def on_a_fake_clock() -> Callable[..., Any]:
    """`on_a_fake_clock(story)` runs `story(clock)`, in which hours take no time."""

    def run(story: Callable[..., Any]) -> Any:
        fake = FakeTime()

        def loop() -> asyncio.AbstractEventLoop:
            made = asyncio.SelectorEventLoop(fake)
            made.time = lambda: fake.now  # type: ignore[method-assign]
            return made

        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(story(lambda: fake.now))

    return run


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
        assert await event == TrialGone()  # nobody has submitted it yet
        await dispatcher.submit(START, "proxy", 0)
        assert await orders == [START]
        event = asyncio.create_task(dispatcher.next_event("0000", LONG_S))
        await dispatcher.report(0, session, "0000", {"step": 10})
        assert await event == TrialReport({"step": 10})
        await dispatcher.go_on("0000")
        event = asyncio.create_task(dispatcher.next_event("0000", LONG_S))
        await dispatcher.ended(0, session, "0000", DONE)
        assert await event == TrialEnded(DONE)
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


def test_worker_groups_are_started_until_one_is_told_to_quit(on_a_fake_clock) -> None:
    lives: list[int] = []

    async def story(clock: Callable[[], float]) -> None:
        dispatcher = Dispatcher(1, 2, 3600.0, clock)

        async def life(lane: int) -> Death:
            lives.append(lane)
            session = await dispatcher.hello(lane)
            if len(lives) < 3:
                return Death("it was killed")
            assert await dispatcher.orders(lane, session, LONG_S) == [Quit()]
            return Death("its workers ended by themselves")

        await dispatcher.open(Host(life))
        await asyncio.sleep(LONG_S)
        await dispatcher.close(LONG_S)

    on_a_fake_clock(story)
    assert lives == [0, 0, 0]


def test_pauses_between_starts_grow_until_the_study_ends_and_trials_wait_all_the_while(on_a_fake_clock) -> None:
    began: list[float] = []

    async def story(clock: Callable[[], float]) -> tuple[Any, ...]:
        dispatcher = Dispatcher(1, 2, 1800.0, clock)

        async def life(lane: int) -> Death:
            began.append(clock())
            await asyncio.sleep(10.0)  # no room
            return Death("it timed out", cause=Cause.lost)

        await dispatcher.submit(START, "proxy", 0)
        await dispatcher.open(Host(life))
        lines = await dispatcher.notices()
        while (await dispatcher.now()).given_up is None:
            assert await dispatcher.next_event("0000", 5.0) is None
            lines += await dispatcher.notices()
        why = (await dispatcher.now()).given_up
        await dispatcher.close(LONG_S)
        return why, lines, await dispatcher.next_event("0000", 5.0)

    why, lines, last = on_a_fake_clock(story)
    waits = [later - earlier - 10.0 for earlier, later in pairwise(began)]
    assert waits[:-1] == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300])
    assert began[-1] - began[0] == pytest.approx(1800.0)
    assert why == "no lane has been ready for 30 min (it timed out)" and last == TrialGone()
    assert 15 <= len(lines) <= 31 and lines[0].startswith("1 of 1 lane(s) is lost (it timed out); ")


def test_a_lane_that_can_be_started_again_gets_its_trial(on_a_fake_clock) -> None:
    async def story(clock: Callable[[], float]) -> tuple[float, list[Any], list[str]]:
        dispatcher = Dispatcher(1, 0, 3600.0, clock)
        began = clock()

        async def life(lane: int) -> Death:
            if clock() - began < 1200.0:
                return Death("its node has died", cause=Cause.lost)
            session = await lane_of(dispatcher, lane)
            assert await dispatcher.orders(lane, session, LONG_S) == [START]
            await dispatcher.ended(lane, session, "0000", DONE)
            await dispatcher.orders(lane, session, LONG_S)
            return Death("its workers ended by themselves")

        await dispatcher.submit(START, "proxy", 0)
        await dispatcher.open(Host(life))
        events, lines = [], list[str]()
        while not events or events[-1] is None:
            events.append(await dispatcher.next_event("0000", 60.0))
            lines += await dispatcher.notices()
        ended = clock() - began
        await dispatcher.close(LONG_S)
        return ended, events, lines

    ended, events, lines = on_a_fake_clock(story)
    assert 1200.0 <= ended <= 1500.0 and events[-1] == TrialEnded(DONE)
    assert lines[-1] == "no lane is lost any more"


def test_where_ray_train_itself_fails_the_study_ends_instead_of_waiting_for_ever(on_a_fake_clock) -> None:
    async def story(clock: Callable[[], float]) -> str | None:
        dispatcher = Dispatcher(2, 2, 3600.0, clock)

        async def life(lane: int) -> Death:
            raise RuntimeError("no such file\nand much more")

        await dispatcher.submit(START, "proxy", 0)
        await dispatcher.open(Host(life))
        assert await dispatcher.next_event("0000", LONG_S) is None
        why = (await dispatcher.now()).given_up
        await dispatcher.close(LONG_S)
        return why

    why = on_a_fake_clock(story)
    assert why is not None and why.endswith("(Ray Train ended: no such file)")


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
