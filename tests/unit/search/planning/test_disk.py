"""What the checkpoints of a sweep take on disk, at once and in the end."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.load import load_experiment
from raytune_ft.hardware.device import Device
from raytune_ft.search.planning.memory import disk
from raytune_ft.search.planning.plan import Plan, plan_sweep

MIB = 2**20
CPU = Device("a CPU", gflops={"bfloat16": 200.0, "float16": 20.0, "float32": 100.0})
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def planned(toy_experiment):
    def make(ranks: list[int] | None = None, trials: int = 8, at_once: int = 1, **changes: Any) -> Plan:
        search = {
            "space": {"parameters": {"method.r": {"choice": ranks or [8]}, **changes.pop("space", {})}},
            "scheduler": changes.pop("scheduler", {"type": "none"}),
            "keep_checkpoints": changes.pop("keep_checkpoints", 3),
            "metrics": changes.pop("goals", []),
            "trials": trials,
            "max_concurrent": at_once,
        }
        return plan_sweep(load_experiment(toy_experiment(search=search, **changes)), CPU)

    return make


def test_of_a_sweep_on_a_lane_what_trains_is_whole_and_of_the_rest_three_keep_weights(planned) -> None:
    """One report: one checkpoint of weights and two moments in float32, and a second while the first is there."""
    plan = planned()
    weights = 4 * plan.memory.adapter_parameters / MIB
    assert plan.disk.checkpoints.low == pytest.approx((3 + 3) * weights, abs=0.06)
    assert plan.disk.checkpoints.high == pytest.approx((2 * 3 + 3) * weights, abs=0.06)
    assert (plan.disk.stays.low, plan.disk.stays.high) == pytest.approx((3 * weights, 3 * weights), abs=0.06)


def test_a_thousand_trials_take_no_more_than_a_dozen(planned) -> None:
    few, many = planned(trials=12).disk, planned(trials=1000).disk
    assert (many.checkpoints, many.stays) == (few.checkpoints, few.stays)


@pytest.mark.parametrize(("keep", "staying"), [(1, 1), (5, 5), (50, 8), ("all", 8)])
def test_what_stays_follows_the_setting(planned, keep: int | str, staying: int) -> None:
    plan = planned(keep_checkpoints=keep)
    weights = 4 * plan.memory.adapter_parameters / MIB
    assert plan.disk.stays.likely == pytest.approx(staying * weights, abs=0.06)
    assert plan.disk.trials == staying


def test_of_several_goals_all_may_stay(planned) -> None:
    plan = planned(goals=[{"name": "eval_loss"}, {"name": "adapter_mib"}])
    weights = 4 * plan.memory.adapter_parameters / MIB
    assert (plan.disk.stays.low, plan.disk.stays.high) == pytest.approx((3 * weights, 8 * weights), abs=0.06)


@pytest.mark.parametrize(
    ("scheduler", "live"),
    [
        ({"type": "hyperband", "grace_period": 1, "reduction_factor": 2}, 4),  # the fullest bracket's
        ({"type": "pbt", "perturbation_interval": 2}, 8),
    ],
)
def test_trials_that_wait_keep_their_optimizers(planned, scheduler: dict[str, Any], live: int) -> None:
    plan = planned(scheduler=scheduler, space={"train.learning_rate": {"uniform": [1e-4, 1e-2]}})
    weights, kept = 4 * plan.memory.adapter_parameters / MIB, min(3, 8 - live)
    reports = min(3, len(plan.rungs)) or 2
    assert plan.disk.checkpoints.high == pytest.approx(((live * reports + 1) * 3 + kept) * weights, abs=0.1)


def test_a_smaller_rank_takes_less(planned) -> None:
    wide, narrow = planned([4, 16]).disk.checkpoints, planned([4]).disk.checkpoints
    assert wide.low == pytest.approx(narrow.low, abs=0.06)
    assert narrow.high < wide.likely < wide.high


def test_more_reports_keep_three_checkpoints_of_a_trial_that_trains(planned) -> None:
    train = {"dtype": "float32", "max_steps": 40, "eval_steps": 2}
    plan = planned(train=train)
    weights = 4 * plan.memory.adapter_parameters / MIB
    assert plan.disk.checkpoints.high == pytest.approx(((3 + 1) * 3 + 3) * weights, abs=0.06)


def test_isolated_trials_at_once_each_take_their_own(planned) -> None:
    plan = planned(runner={"type": "isolated"}, at_once=2)
    weights = 4 * plan.memory.adapter_parameters / MIB
    assert plan.disk.checkpoints.high == pytest.approx(((2 + 2) * 3 + 3) * weights, abs=0.06)


def test_a_sweep_that_will_not_fit_is_warned_of(planned, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not planned().warnings
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: Usage(0, 0, 0))
    (warning,) = planned().warnings
    assert warning.startswith("output_dir: checkpoints take about ")
    assert warning.endswith("has 0 MiB free; free some, or set it elsewhere")


def test_the_disk_is_that_of_the_nearest_directory_there_is(planned, tmp_path: Path) -> None:
    assert planned(output_dir=str(tmp_path / "not" / "yet")).disk.directory == str(tmp_path.resolve())
