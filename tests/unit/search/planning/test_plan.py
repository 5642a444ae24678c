"""What a sweep would do: the arithmetic of halving, of the space, and of worker groups."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import load_experiment
from raytune_ft.config.possible import possible
from raytune_ft.hardware.device import Device
from raytune_ft.search.planning.bounds import Bounds
from raytune_ft.search.planning.plan import SECONDS_PER_ISOLATED_START, Plan, plan_sweep
from raytune_ft.search.scheduling.replay import PastTrial
from raytune_ft.search.scheduling.schedulers import make_scheduler

ROOT = Path(__file__).parents[4]
CPU = Device("a CPU", gflops={"bfloat16": 200.0, "float16": 20.0, "float32": 100.0})


@pytest.fixture
def planned(toy_experiment):
    def make(space: dict[str, Any] | None = None, search: dict[str, Any] | None = None, **changes: Any) -> Plan:
        parameters = space or {"train.learning_rate": {"loguniform": [1e-3, 1e-2]}}
        train = {"per_device_train_batch_size": 4, "max_steps": 45, "dtype": "float32", **changes.pop("train", {})}
        values = {
            "space": {"parameters": parameters},
            "scheduler": {"type": "asha", "grace_period": 5, "reduction_factor": 3},
            "trials": 8,
            **(search or {}),
        }
        return plan_sweep(load_experiment(toy_experiment(search=values, train=train, **changes)), CPU)

    return make


def test_rungs_say_how_many_trials_pass_them(planned) -> None:
    plan = planned()
    assert [(rung.step, rung.trials, rung.halving) for rung in plan.rungs] == [
        (5, Bounds(8, 8), 8),
        (15, Bounds(1, 8), 3),
        (45, Bounds(1, 8), 1),
    ]
    assert plan.steps == Bounds(45 + 7 * 5, 8 * 45)
    assert plan.halving_steps == 5 * 8 + 10 * 3 + 30 * 1


def test_without_a_scheduler_every_trial_runs_to_its_end(planned) -> None:
    plan = planned(search={"scheduler": {"type": "none"}})
    assert plan.steps == Bounds(360, 360) and plan.halving_steps == 360
    assert [rung.step for rung in plan.rungs] == [45]


@pytest.mark.parametrize(
    ("schedule", "scheduler", "warned"),
    [
        ("cosine", "asha", "cosine decays"),
        ("linear", "asha", "linear decays"),
        ("cosine", "none", None),
        ("constant", "asha", None),
        ("warmup_stable_decay", "asha", None),
    ],
)
def test_a_schedule_that_lies_to_early_stopping_is_warned_of(planned, schedule, scheduler, warned) -> None:
    plan = planned(train={"lr_scheduler_type": schedule}, search={"scheduler": {"type": scheduler}})
    assert len(plan.warnings) == (warned is not None)
    assert warned is None or f"train.lr_scheduler_type: {warned} to the last step" in plan.warnings[0]


def test_a_searched_schedule_is_warned_of_by_name(planned) -> None:
    plan = planned(space={"train.lr_scheduler_type": {"choice": ["constant", "cosine", "linear"]}})
    assert "cosine and linear decay" in plan.warnings[0]


def test_without_a_search_there_is_one_trial(toy_experiment) -> None:
    plan = plan_sweep(load_experiment(toy_experiment(search=None)), CPU)
    assert (plan.trials, plan.max_concurrent, plan.steps) == (1, 1, Bounds(4, 4))
    assert (plan.worker_groups, plan.isolated_worker_groups, plan.saved_seconds) == (1, 1, 0.0)


def steps_of(experiment: Experiment, losses: list[float]) -> int:
    """Steps that Ray's own scheduler lets trials train, one after the other, each with its loss at every rung."""

    assert experiment.search is not None
    scheduler, total = make_scheduler(experiment, experiment.search), 0
    scheduler.set_search_properties("eval_loss", "min")
    for number, loss in enumerate(losses):
        trial = PastTrial.of(str(number), {})
        scheduler.on_trial_add(None, trial)
        for step in experiment.report_steps():
            if scheduler.on_trial_result(None, trial, {"step": step, "eval_loss": loss}) == scheduler.STOP:
                break
        total += step
    return total


def test_the_scheduler_reaches_both_bounds_and_never_leaves_them(planned, tmp_path: Path) -> None:
    plan = planned()
    experiment = load_experiment(tmp_path / "toy.yaml")
    losses = [float(number) for number in range(8)]
    assert steps_of(experiment, losses) == plan.steps.least
    assert steps_of(experiment, losses[::-1]) == plan.steps.most
    draw = random.Random(0)
    for _ in range(20):
        draw.shuffle(losses)
        assert plan.steps.least <= steps_of(experiment, losses) <= plan.steps.most


def test_samples_count_the_space_the_workers_and_accumulation(planned) -> None:
    plan = planned(
        space={"train.per_device_train_batch_size": {"choice": [2, 8]}},
        train={"gradient_accumulation_steps": 3},
        resources={"workers": 2},
    )
    assert plan.samples == Bounds(80 * 2 * 3 * 2, 360 * 8 * 3 * 2)


def test_a_searched_number_of_steps_widens_the_bounds(planned) -> None:
    plan = planned(space={"train.max_steps": {"randint": [20, 60]}})
    assert plan.steps == Bounds(20 + 7 * 5, 8 * 60) and plan.halving_steps is None


def test_a_conditional_parameter_leaves_the_experiments_own_value_possible(toy_experiment) -> None:
    parameters = {"method.r": {"choice": [4, 16], "when": {"method.use_rslora": True}}}
    experiment = load_experiment(
        toy_experiment(search={"space": {"parameters": parameters}, "scheduler": {"type": "none"}})
    )
    assert possible(experiment, "method.r") == [4, 16, 8]
    assert possible(experiment, "method.alpha") == [16]


@pytest.mark.parametrize(
    ("at_once", "lanes", "cpus", "groups", "starts_saved"),
    [
        (1, None, 8, 1, 7),
        (2, None, 8, 2, 3),
        (3, None, 8, 3, 2),
        (8, None, 8, 8, 0),
        (16, None, 8, 8, 0),
        (4, 2, 8, 2, 1),
        (1, 2, 8, 2, 7),
        (8, None, 2, 2, 3),  # no more fit
    ],
)
def test_lanes_start_once_and_isolated_trials_each(
    planned, at_once: int, lanes: int | None, cpus: int, groups: int, starts_saved: int, monkeypatch
) -> None:
    monkeypatch.setattr("raytune_ft.search.planning.groups.os.cpu_count", lambda: cpus)
    plan = planned(search={"max_concurrent": at_once}, runner={"type": "lane", "lanes": lanes})
    assert (plan.worker_groups, plan.isolated_worker_groups) == (groups, 8)
    assert plan.saved_seconds == starts_saved * SECONDS_PER_ISOLATED_START


def test_isolated_trials_save_nothing(planned) -> None:
    plan = planned(runner={"type": "isolated"})
    assert (plan.runner, plan.worker_groups, plan.saved_seconds) == ("isolated", 8, 0.0)


def test_the_tokens_of_a_row_are_counted_once_the_same_data_was_prepared(planned, tmp_path: Path) -> None:
    from raytune_ft.objectives.prepared import prepare

    assert not planned().tokens_counted
    prepare(load_experiment(tmp_path / "toy.yaml"), tmp_path / "runs/toy/data")
    plan = planned()
    assert plan.tokens_counted and plan.tokens_per_row is not None and 5 < plan.tokens_per_row < 64
    assert not planned(seed=3).tokens_counted


def test_tokens_time_and_memory_are_planned_for_the_sweep(planned) -> None:
    plan = planned(search={"scheduler": {"type": "none"}})
    assert plan.work.tokens.likely == pytest.approx(8 * 45 * 4 * plan.tokens_per_row, rel=0.01)
    assert plan.work.trial_tokens.likely == pytest.approx(plan.work.tokens.likely / 8)
    assert 0 < plan.hours.low < plan.hours.likely < plan.hours.high
    assert plan.device_hours == plan.hours and plan.cost is None  # one worker with one CPU
    assert plan.peak.whole.likely > plan.memory.base_bytes / 2**20 and plan.room.total > plan.room.free > 0


def test_the_limits_that_will_close_the_study_are_named(planned) -> None:
    prices = {"prices": {"cpu": 0.5}}
    plan = planned(search={"budget": {"tokens": 100, "hours": 1000.0, "cost": 0.0000001, **prices}})
    assert [line.partition(" ")[0] for line in plan.budget] == ["tokens", "cost"]
    assert plan.budget[0] == "tokens 100 will likely close the study before it has its 8 trials"
    assert plan.cost.likely == pytest.approx(0.5 * plan.device_hours.likely)


def test_the_seconds_of_a_start_are_the_benchmarks() -> None:
    results = json.loads((ROOT / "benchmarks/results/lanes.json").read_text())
    measured = results["measures"]["sweep"]["seconds_per_isolated_start"]
    assert pytest.approx(measured, rel=0.1) == SECONDS_PER_ISOLATED_START
