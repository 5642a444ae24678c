"""What a study has used up, counted over drivers, restarts and clocks that jump."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.search.budget import Budget
from raytune_ft.search.budget.spent import Meter, Spent, used_up


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def report(step: int, tokens: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "tokens": tokens, "seconds": step * 1.0, "time": f"at {step}", **more}


def test_hours_and_device_hours_grow_with_the_clock_and_the_groups_that_are_up(tmp_path: Path) -> None:
    clock = Clock()
    meter = Meter(tmp_path / "spent.json", devices=4, clock=clock)
    clock.now += 1800
    meter.group_up("lane 0")
    meter.group_up("lane 1")
    clock.now += 1800
    meter.group_down("lane 1")
    clock.now += 3600
    assert meter.spent == Spent(hours=2.0, device_hours=0.5 * 8 + 1.0 * 4, tokens=0, cost=None)


def test_a_wall_clock_that_jumps_an_hour_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(tmp_path / "spent.json", devices=1)
    meter.group_up("lane 0")
    monkeypatch.setattr(time, "time", lambda: 9e9)
    meter.reported("0000", report(5, 100))
    assert meter.spent.hours < 0.01 and meter.spent.device_hours < 0.01
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert meter.spent.hours >= 0.0


def test_the_next_driver_counts_on_and_a_killed_one_loses_the_time_since_its_last_report(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "spent.json"
    killed = Meter(path, devices=2, clock=clock)
    killed.price = 3.0
    killed.group_up("lane 0")
    clock.now += 3600
    killed.reported("0000", report(5, 100))
    clock.now += 600  # and then it is killed

    resumed = Meter(path, devices=2, clock=clock)
    assert resumed.spent == Spent(hours=1.0, device_hours=2.0, tokens=100, cost=6.0)
    resumed.price = 1.0  # of another machine
    resumed.group_up("lane 0")
    clock.now += 1800
    assert resumed.spent == Spent(hours=1.5, device_hours=3.0, tokens=100, cost=7.0)


def test_tokens_are_the_growth_of_each_trials_count(tmp_path: Path) -> None:
    meter = Meter(tmp_path / "spent.json", devices=1)
    for trial, step, tokens in (("0000", 5, 100), ("0001", 5, 80), ("0000", 15, 310), ("0001", 15, 250)):
        meter.reported(trial, report(step, tokens))
    assert meter.spent.tokens == 310 + 250


def test_a_report_that_comes_again_counts_once_also_for_the_next_driver(tmp_path: Path) -> None:
    first = Meter(tmp_path / "spent.json", devices=1)
    first.reported("0000", report(5, 100, trained_tokens=100))
    first.reported("0000", report(5, 100, trained_tokens=100))
    second = Meter(tmp_path / "spent.json", devices=1)
    second.reported("0000", report(5, 100, trained_tokens=100))
    assert second.spent.tokens == 100


def test_what_a_worker_says_that_it_trained_counts_more_than_its_count(tmp_path: Path) -> None:
    """A trial that copied another one's checkpoint has that one's count; one that lost its last went back."""
    meter = Meter(tmp_path / "spent.json", devices=1)
    meter.reported("0000", report(5, 100, trained_tokens=100))
    meter.reported("0000", report(15, 900, trained_tokens=200))
    meter.reported("0000", {**report(15, 900, trained_tokens=200), "time": "later", "seconds": 40.0})
    assert meter.spent.tokens == 500


def test_a_count_that_begins_anew_never_takes_tokens_away(tmp_path: Path) -> None:
    meter = Meter(tmp_path / "spent.json", devices=1)
    meter.reported("0000", report(15, 300))
    meter.reported("0000", report(20, 90))
    assert meter.spent.tokens == 390
    meter.reported("0000", {**report(10, 20), "time": "later"})
    assert meter.spent.tokens == 390
    meter.reported("0000", {"training_iteration": 3})
    assert meter.spent.tokens == 390


def test_the_file_is_whole_after_each_report_and_forgets_trials_that_ended(tmp_path: Path) -> None:
    meter = Meter(tmp_path / "spent.json", devices=1)
    meter.reported("0000", report(5, 100))
    meter.ended("0000")
    meter.reported("0001", report(5, 70))
    values = json.loads((tmp_path / "spent.json").read_text())
    assert values["tokens"] == 170 and list(values["reported"]) == ["0001"] and values["closed"] is None


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"tokens": 1_000_000}, "the budget's 1,000,000 tokens are used up"),
        ({"hours": 1.5}, "the budget's 1.5 hours are used up"),
        ({"device_hours": 3.0}, "the budget's 3 device hours are used up"),
        ({"cost": 7.5, "prices": {"gpu": 2.5}}, "the budget's cost of 7.5 is used up"),
        ({"tokens": 1_000_001, "hours": 1.6, "device_hours": 3.1, "cost": 7.6, "prices": {"gpu": 2.5}}, None),
        ({}, None),
    ],
)
def test_the_limit_that_is_reached_is_named(budget: dict[str, Any], words: str | None) -> None:
    spent = Spent(hours=1.5, device_hours=3.0, tokens=1_000_000, cost=7.5)
    assert used_up(Budget.model_validate(budget), spent) == words


def test_a_cost_that_nobody_can_tell_is_not_used_up() -> None:
    assert used_up(Budget(cost=1.0, prices={"H100": 2.0}), Spent(device_hours=100.0)) is None
