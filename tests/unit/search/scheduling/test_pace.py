"""How many trials train at once, whatever the scheduler does with the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

from raytune_ft.search.scheduling.pace import Pace

SCHEDULERS: list[dict[str, Any]] = [
    {"type": "none"},
    {"type": "asha", "grace_period": 5, "reduction_factor": 3},
    {"type": "hyperband", "grace_period": 5, "reduction_factor": 3},
    {"type": "bohb", "grace_period": 5, "reduction_factor": 3},
    {"type": "median", "grace_period": 15},
    {"type": "pbt", "perturbation_interval": 15},
    {"type": "pb2", "perturbation_interval": 15},
]


def trial(name: str, status: str = Trial.PENDING) -> Any:
    return SimpleNamespace(trial_id=name, status=status)


def controller(*trials: Any) -> Any:
    return SimpleNamespace(get_trials=lambda: list(trials))


@pytest.mark.parametrize(("at_once", "seed"), [(1, 0), (3, 1)])
@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda scheduler: scheduler["type"])
def test_every_scheduler_ends_with_all_trials_and_never_trains_more_at_once(simulate, scheduler, at_once, seed) -> None:
    """Two of the trials die, one before its first report."""
    dies = {"0002": 3, "0005": 20}
    played = simulate(scheduler=scheduler, trials=11, max_concurrent=at_once, dies=dies, seed=seed).play()
    assert played.at_once == at_once
    assert sorted(played.outcomes) == [f"{number:04d}" for number in range(11)]
    assert all(each.state.is_finished() for each in played.study.trials)


def test_a_paused_trial_leaves_its_place_to_another() -> None:
    pace = Pace(FIFOScheduler(), 1)
    one, other = trial("a", Trial.RUNNING), trial("b")
    pace.on_trial_add(None, one)
    assert pace.busy() == 1 and not pace.may_start(5)
    assert pace.choose_trial_to_run(controller(one)) is None
    one.status = Trial.PAUSED
    assert pace.busy() == 0 and pace.may_start(5)
    pace.on_trial_add(None, other)
    assert not pace.may_start(5)
    assert pace.choose_trial_to_run(controller(one, other)) is other


def test_a_paused_trial_goes_on_only_where_there_is_room() -> None:
    pace = Pace(FIFOScheduler(), 2)
    trials = [trial("a", Trial.RUNNING), trial("b", Trial.RUNNING), trial("c", Trial.PAUSED)]
    for each in trials:
        pace.on_trial_add(None, each)
    assert pace.choose_trial_to_run(controller(*trials)) is None


def test_the_first_trial_starts_even_where_nothing_has_room_yet() -> None:
    pace = Pace(FIFOScheduler(), 4)
    assert pace.may_start(0)
    pace.on_trial_add(None, trial("a"))
    assert not pace.may_start(1) and pace.may_start(2)


def test_a_trial_whose_process_died_keeps_its_place_in_the_scheduler() -> None:
    inside = AsyncHyperBandScheduler("step", "eval_loss", "min", max_t=10, grace_period=2, brackets=5)
    pace, one = Pace(inside, 1), trial("a", Trial.RUNNING)
    pace.on_trial_add(None, one)
    bracket = inside._trial_info["a"]
    one.status = Trial.ERROR  # so it is while Tune puts it into the queue again
    pace.on_trial_error(None, one)
    one.status = Trial.PENDING
    pace.on_trial_add(None, one)
    assert pace.busy() == 1 and inside._trial_info["a"] is bracket
    pace.on_trial_result(None, one, {"step": 2, "eval_loss": 1.0})
    one.status = Trial.RUNNING
    pace.on_trial_error(None, one)  # for good
    assert pace.busy() == 0
