"""A clock that jumps an hour (fault 18)."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from raytune_ft.paths import read_json
from raytune_ft.training import steady_clock
from raytune_ft.training.lane import loop
from raytune_ft.training.lane.evaluate import evaluate
from raytune_ft.training.metrics_log import read_metrics

HOUR = 3600.0


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_fault_18_the_steady_clock_takes_no_part_in_a_jump(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    before, real = steady_clock.steady_time(), time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    assert 0.0 <= steady_clock.steady_time() - before < 5.0
    stamp = datetime.fromisoformat(steady_clock.steady_stamp()).timestamp()
    assert abs(stamp - real()) < 60.0


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_fault_18_a_trial_during_which_the_clock_jumps_has_its_true_durations_and_its_reports_in_order(
    lane_world, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    world, real = lane_world(), time.time

    def jumps(stepper, trial, ranks) -> float:
        if trial.step == 4:
            monkeypatch.setattr(time, "time", lambda: real() + jump)
        return evaluate(stepper, trial, ranks)

    monkeypatch.setattr(loop, "evaluate", jumps)
    began = time.monotonic()
    desk = world.lane(world.start("0000"), world.start("0001"))
    took = time.monotonic() - began
    for name in ("0000", "0001"):
        assert 0.0 < desk.outcomes[name].seconds <= took
        reports = read_metrics(world.run.trial(name).metrics)
        assert [report["seconds"] for report in reports] == sorted(report["seconds"] for report in reports)
        assert [report["time"] for report in reports] == sorted(report["time"] for report in reports)
        times = read_json(world.run.trial(name).root / "timing.json")
        assert times["taken"] <= times["first_step"] <= times["ended"] <= times["taken"] + took
    first, second = (read_json(world.run.trial(name).root / "timing.json") for name in ("0000", "0001"))
    assert first["ended"] <= second["taken"]
