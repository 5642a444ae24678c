"""Trials' processes start one after another and only as the lanes want them, so as not to take the cores from these."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.search.trials import lane_demand
from raytune_ft.search.trials.lane_demand import PACK, PROXY_CORE_S, LaneDemand, one_after_another


def test_a_proxy_may_start_for_each_lane_at_once_and_then_one_more_whenever_the_node_can_bear_it() -> None:
    now = 100.0
    may_run = one_after_another(2, cores=2, clock=lambda: now)
    assert may_run() == 2
    now += PROXY_CORE_S / 2 - 0.01
    assert may_run() == 2
    now += 0.02
    assert may_run() == 3
    now += 10 * PROXY_CORE_S
    assert may_run() == 23


def test_a_node_with_more_cores_starts_them_sooner() -> None:
    now = 0.0
    may_run = one_after_another(1, cores=100, clock=lambda: now)
    now = 1.0
    assert may_run() == 1 + 100 / PROXY_CORE_S


class Lanes:
    """A dispatcher that answers when it is let, and `ray` that knows its answers."""

    def __init__(self, wants: int) -> None:
        self.wants, self.asked, self.answers = wants, [], True
        self.room = self
        self.exceptions = SimpleNamespace(RayError=LookupError)

    def remote(self, unheard: int) -> object:
        self.asked.append(unheard)
        return object()

    def wait(self, answers: list[object], timeout: float) -> tuple[list[object], list[object]]:
        assert timeout == 0
        return (answers, []) if self.answers else ([], answers)

    def get(self, answer: object) -> int:
        if self.wants < 0:
            raise LookupError("the dispatcher died")
        return self.wants


@pytest.fixture
def make_room(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LaneDemand]:
    monkeypatch.setattr(lane_demand, "one_after_another", lambda lanes: lambda: 100)
    monkeypatch.setattr(lane_demand, "ASKED_EVERY_S", -1.0)

    def make(lanes: Lanes, **runner: Any) -> LaneDemand:
        monkeypatch.setitem(sys.modules, "ray", lanes)
        values = {"name": "e", "base_model": "b", "data": {"train": "t"}, "runner": {"type": "lane", **runner}}
        return LaneDemand(lanes, 2, Experiment.model_validate(values))

    return make


def test_as_many_trials_are_of_use_as_the_lanes_want(make_room: Callable[..., LaneDemand]) -> None:
    lanes = Lanes(wants=2)
    wanted = make_room(lanes)
    assert wanted() == 2 * PACK  # nobody has answered yet
    assert wanted() == 2 and lanes.asked[0] == PACK
    lanes.wants = 8
    wanted()
    assert wanted() == 8


def test_an_answer_is_not_waited_for(make_room: Callable[..., LaneDemand]) -> None:
    lanes = Lanes(wants=2)
    lanes.answers = False
    wanted = make_room(lanes)
    assert [wanted() for _ in range(5)] == [2 * PACK] * 5 and len(lanes.asked) == 1


def test_a_dispatcher_that_died_leaves_it_as_it_was(make_room: Callable[..., LaneDemand]) -> None:
    lanes = Lanes(wants=3)
    wanted = make_room(lanes)
    wanted()
    assert wanted() == 3
    lanes.wants = -1
    assert [wanted() for _ in range(3)] == [3, 3, 3]


def test_lanes_of_a_given_pack_are_taken_to_want_that(make_room: Callable[..., LaneDemand]) -> None:
    lanes = Lanes(wants=2)
    assert make_room(lanes, packed=1)() == 2
    assert make_room(lanes, packed=3)() == 6


def test_however_many_they_want_they_start_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = Lanes(wants=64)
    monkeypatch.setitem(sys.modules, "ray", lanes)
    values = {"name": "e", "base_model": "b", "data": {"train": "t"}}
    assert LaneDemand(lanes, 1, Experiment.model_validate(values))() == 1
