"""Whether the engine can answer, and who asks it how often."""

from __future__ import annotations

import asyncio

from raytune_ft.serving.engine.health import Health


class Engine:
    def __init__(self) -> None:
        self.asked, self.well, self.slow_s = 0, True, 0.0

    async def probe(self) -> bool:
        self.asked += 1
        await asyncio.sleep(self.slow_s)
        if not self.well:
            raise RuntimeError("dead")
        return True


def test_many_who_ask_at_once_ask_the_engine_once() -> None:
    async def run() -> None:
        engine = Engine()
        engine.slow_s = 0.01
        health = Health(engine.probe)
        assert all(await asyncio.gather(*(health.answers() for _ in range(50))))
        assert await health.answers()
        assert engine.asked == 1

    asyncio.run(run())


def test_an_engine_that_died_is_noticed_when_the_answer_is_old() -> None:
    async def run() -> None:
        engine = Engine()
        health = Health(engine.probe, fresh_s=0.01)
        assert await health.answers()
        engine.well = False
        await asyncio.sleep(0.02)
        assert not await health.answers()

    asyncio.run(run())


def test_an_engine_that_hangs_cannot_answer() -> None:
    async def run() -> None:
        engine = Engine()
        engine.slow_s = 60.0
        assert not await Health(engine.probe, timeout_s=0.01).answers()

    asyncio.run(run())


def test_an_engine_that_is_too_busy_for_the_probe_but_answers_is_well() -> None:
    async def run() -> None:
        engine = Engine()
        engine.slow_s = 60.0
        health = Health(engine.probe, timeout_s=0.03)
        asked = asyncio.create_task(health.answers())
        await asyncio.sleep(0.01)
        health.heard()
        assert await asked

    asyncio.run(run())


def test_who_goes_away_does_not_end_the_probe_for_the_others() -> None:
    async def run() -> None:
        engine = Engine()
        engine.slow_s = 0.02
        health = Health(engine.probe)
        impatient = asyncio.create_task(health.answers())
        patient = asyncio.create_task(health.answers())
        await asyncio.sleep(0.005)
        impatient.cancel()
        assert await patient

    asyncio.run(run())


def test_after_a_broken_request_the_engine_is_down_until_a_probe_succeeds() -> None:
    async def run() -> None:
        engine = Engine()
        health = Health(engine.probe, fresh_s=0.01)
        assert await health.answers()
        engine.well = False
        health.suspect()
        health.suspect()
        await asyncio.sleep(0.03)
        assert health.down
        engine.well = True
        await asyncio.sleep(0.05)
        assert not health.down

    asyncio.run(run())


def test_one_broken_request_of_an_engine_that_answers_turns_nobody_away() -> None:
    async def run() -> None:
        engine = Engine()
        health = Health(engine.probe)
        health.suspect()
        await asyncio.sleep(0.01)
        assert not health.down

    asyncio.run(run())
