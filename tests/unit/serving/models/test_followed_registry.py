"""The registry from memory, also where its storage hangs or breaks."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.errors import IntegrityError
from raytune_ft.registry.manifest import Manifest
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import Traffic, canary, set_traffic
from raytune_ft.serving.models.follow import Follower
from raytune_ft.serving.models.followed_registry import FollowedRegistry, follow
from raytune_ft.serving.models.registry_view import RegistryView


class Hanging:
    """A registry whose reads block from some time on."""

    def __init__(self, view: RegistryView) -> None:
        self.view, self.open, self.blocked = view, threading.Event(), threading.Event()
        self.open.set()

    def _wait(self) -> None:
        if not self.open.is_set():
            self.blocked.set()
        assert self.open.wait(60)

    def aliases(self, adapter: str) -> Mapping[str, int]:
        self._wait()
        return self.view.aliases(adapter)

    def past_champions(self, adapter: str) -> Sequence[int]:
        self._wait()
        return self.view.past_champions(adapter)

    def traffic(self, adapter: str) -> Traffic | None:
        self._wait()
        return self.view.traffic(adapter)

    def manifest(self, adapter: str, version: int) -> Manifest | None:
        self._wait()
        return self.view.manifest(adapter, version)

    def whole_versions(self) -> dict[str, dict[int, Manifest]]:
        self._wait()
        return self.view.whole_versions()


@pytest.fixture
def registry(base: Path, add: Callable[..., Registry]) -> Registry:
    registry = add(base, champion=True)
    registry.set_alias("movies", "challenger", 1)
    set_traffic(registry, "movies", canary(10))
    return registry


@pytest.fixture
def hanging(registry: Registry) -> Iterator[Hanging]:
    hanging = Hanging(RegistryView(str(registry.root)))
    yield hanging
    hanging.open.set()


def within(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 50
    while not (found := holds()):
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.005)
    return found


def test_it_says_what_the_registry_says(registry: Registry) -> None:
    followed, view = FollowedRegistry(RegistryView(str(registry.root))), RegistryView(str(registry.root))
    assert followed.aliases("movies") == view.aliases("movies") == {"champion": 1, "challenger": 1}
    assert followed.traffic("movies") == view.traffic("movies") == canary(10)
    assert followed.manifest("movies", 1) == view.manifest("movies", 1) is not None
    assert followed.whole_versions() == view.whole_versions()
    assert (followed.aliases("other"), followed.traffic("../x"), followed.manifest("movies", 9)) == ({}, None, None)


def test_a_move_is_seen_by_the_next_look(registry: Registry) -> None:
    followed = follow(str(registry.root))
    set_traffic(registry, "movies", None)
    asyncio.run(followed.anew())
    assert followed.traffic("movies") is None


def test_while_the_storage_hangs_the_last_state_answers_and_says_its_age(hanging: Hanging) -> None:
    """Fault 37: a hung mount."""
    followed = FollowedRegistry(hanging, every_s=0.001)
    followed.start()
    hanging.open.clear()
    assert hanging.blocked.wait(50)
    before = followed.age_s
    assert followed.aliases("movies") == {"champion": 1, "challenger": 1}

    async def asked() -> None:
        ticks = 0

        async def others() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        going_on = asyncio.create_task(others())
        await followed.anew()  # returns although nothing is read
        going_on.cancel()
        assert ticks > 10, "the loop stood still"

    asyncio.run(asked())
    assert followed.age_s >= before + 0.9
    hanging.open.set()
    within(lambda: followed.age_s < 0.5)


def test_a_root_that_vanishes_is_no_registry_without_adapters(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    followed = FollowedRegistry(RegistryView(str(registry.root)), str(registry.root))
    registry.root.rename(registry.root.with_name("unmounted"))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            followed._follower.read_again()
    assert followed.aliases("movies")["champion"] == 1
    assert len(caplog.messages) == 1 and "the registry stays as it was: FileNotFoundError" in caplog.messages[0]


def test_aliases_that_break_stay_what_they_were(registry: Registry) -> None:
    followed = FollowedRegistry(RegistryView(str(registry.root)))
    (registry.root / "movies" / "aliases.json").write_text("{")
    (registry.root / "movies" / "traffic.json").write_text("{")
    followed._follower.read_again()
    assert followed.aliases("movies")["champion"] == 1
    with pytest.raises(IntegrityError):
        followed.traffic("movies")
    with pytest.raises(IntegrityError):
        FollowedRegistry(RegistryView(str(registry.root))).aliases("movies")


def test_a_follower_that_nobody_holds_ends_its_thread() -> None:
    follower = Follower(lambda: 1, 0.001, "a test's value")
    follower.start()
    threads = [each for each in threading.enumerate() if each.name == "a test's value"]
    assert len(threads) == 1
    del follower
    gc.collect()
    threads[0].join(50)
    assert not threads[0].is_alive()
