"""What the checkpoints of a sweep take on disk."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.load import load_experiment
from raytune_ft.hardware.device import Device
from raytune_ft.search.planning import disk
from raytune_ft.search.planning.plan import Plan, plan_sweep

MIB = 2**20
CPU = Device("a CPU", gflops={"bfloat16": 200.0, "float16": 20.0, "float32": 100.0})
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def planned(toy_experiment):
    def make(ranks: list[int] | None = None, trials: int = 8, at_once: int = 1, **changes: Any) -> Plan:
        search = {
            "space": {"parameters": {"method.r": {"choice": ranks or [8]}}},
            "scheduler": {"type": "none"},
            "trials": trials,
            "max_concurrent": at_once,
        }
        return plan_sweep(load_experiment(toy_experiment(search=search, **changes)), CPU)

    return make


def test_every_trial_on_a_lane_keeps_its_checkpoints_whole(planned) -> None:
    """One report: one checkpoint of weights and two moments in float32, and a second while the first is there."""
    plan = planned()
    one = 12 * plan.memory.adapter_parameters / MIB
    assert plan.disk.checkpoints.low == pytest.approx(8 * one, abs=0.06)
    assert plan.disk.checkpoints.high == pytest.approx(9 * one, abs=0.06)


def test_a_smaller_rank_takes_less(planned) -> None:
    wide, narrow = planned([4, 16]).disk.checkpoints, planned([4]).disk.checkpoints
    assert wide.low == pytest.approx(narrow.low, abs=0.06)
    assert narrow.high < wide.likely < wide.high


def test_more_reports_keep_three_checkpoints_of_a_trial(planned) -> None:
    train = {"dtype": "float32", "max_steps": 40, "eval_steps": 2}
    plan = planned(train=train)
    one = 12 * plan.memory.adapter_parameters / MIB
    assert plan.disk.checkpoints.high == pytest.approx((3 * 8 + 1) * one, abs=0.06)


def test_an_isolated_trial_that_ended_keeps_no_optimizer(planned) -> None:
    plan = planned(runner={"type": "isolated"}, at_once=2)
    weight = plan.memory.adapter_parameters / MIB
    assert plan.disk.checkpoints.low == pytest.approx(8 * 4 * weight, abs=0.06)
    assert plan.disk.checkpoints.high == pytest.approx((8 * 4 + 2 * (2 * 12 - 4)) * weight, abs=0.06)


def test_a_sweep_that_will_not_fit_is_warned_of(planned, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not planned().warnings
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: Usage(0, 0, 0))
    (warning,) = planned().warnings
    assert warning.startswith("output_dir: checkpoints of all trials take about ")
    assert warning.endswith("has 0 MiB free; free some, or set it elsewhere")


def test_the_disk_is_that_of_the_nearest_directory_there_is(planned, tmp_path: Path) -> None:
    assert planned(output_dir=str(tmp_path / "not" / "yet")).disk.directory == str(tmp_path.resolve())
