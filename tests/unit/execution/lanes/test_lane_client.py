"""A lane's end of the line, with a dispatcher that answers when it is let."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions

from raytune_ft.execution.lanes import lane_client as desks
from raytune_ft.execution.lanes.lane_client import CUT_OFF_S, LaneClient
from raytune_ft.training.lane.orders import GoOn, Quit


class Dispatcher:
    """Its methods are called as Ray's are; `orders` waits for the next answer."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.asked = threading.Event()
        self.stopped = False
        self.has_trials: bool | None = None  # answered when the lane asks whether it has its trials; None: no answer
        self.heard: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return type("Method", (), {"remote": staticmethod(lambda *args: (name, args))})

    def get(self, call: tuple[str, tuple[Any, ...]], timeout: float | None = None) -> Any:
        name, args = call
        self.heard.append((name, *args))
        if name == "hello":
            return 1
        if name == "keeps":
            if self.has_trials is None:
                raise ray.exceptions.GetTimeoutError
            return self.has_trials
        if name != "orders":
            return None
        self.asked.set()
        self.answer.wait(10.0)
        self.answer.clear()
        return [Quit()] if self.stopped else [GoOn("0000")]


@pytest.fixture
def dispatcher(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Dispatcher()
    monkeypatch.setattr(desks, "ray", SimpleNamespace(get=made.get, exceptions=ray.exceptions))
    yield made
    made.stopped = True
    while listening := [thread for thread in threading.enumerate() if thread.name == "orders"]:
        made.answer.set()
        listening[0].join(0.1)


def test_a_lane_without_answers_is_cut_off_for_good(dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(desks, "time", SimpleNamespace(monotonic=lambda: now))
    client = LaneClient(dispatcher, 0)
    assert dispatcher.asked.wait(5.0)
    now += CUT_OFF_S
    assert client.in_touch() and client.orders(1, 0.0) == []
    dispatcher.asked.clear()
    dispatcher.answer.set()
    assert dispatcher.asked.wait(5.0)  # the answer came, and the next was asked for now
    now += 1.0
    assert not client.in_touch()  # what was answered was asked too long ago
    assert client.orders(1, 5.0) == [Quit()] and not client.in_touch()


@pytest.mark.parametrize("kept", [True, False])
def test_a_lane_that_stood_still_asks_whether_it_has_its_trials(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    now, dispatcher.has_trials = 100.0, kept
    monkeypatch.setattr(desks, "time", SimpleNamespace(monotonic=lambda: now))
    client = LaneClient(dispatcher, 0)
    now += 10 * CUT_OFF_S
    assert client.in_touch() is kept
    dispatcher.has_trials = None  # is not asked again
    assert client.in_touch() is kept
    assert dispatcher.heard.count(("keeps", 0, 1)) == 1


def test_answers_keep_a_lane_in_touch(dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(desks, "time", SimpleNamespace(monotonic=lambda: now))
    client = LaneClient(dispatcher, 0)
    for _ in range(3):
        assert dispatcher.asked.wait(5.0)
        now += CUT_OFF_S / 2
        dispatcher.asked.clear()
        dispatcher.answer.set()
        assert dispatcher.asked.wait(5.0)
        assert client.orders(0, 5.0) == [GoOn("0000")]


def test_a_lane_says_goodbye_in_its_session(dispatcher: Dispatcher) -> None:
    LaneClient(dispatcher, 3).bye()
    assert ("bye", 3, 1) in dispatcher.heard
