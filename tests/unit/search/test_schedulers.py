"""Who is stopped, and that a resumed sweep stops the same trials."""

from __future__ import annotations

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from raytune_ft.paths import RunDirectory
from raytune_ft.search.schedulers import _Past, make_scheduler, replay
from raytune_ft.training.metrics_log import append_metrics

STEPS = (5, 15, 45)
# name -> eval_loss at each report step; the third and the last are bad from the start, the fifth later
CURVES = {
    "0000": (0.90, 0.60, 0.50),
    "0001": (0.80, 0.55, 0.40),
    "0002": (1.50, 1.40, 1.30),
    "0003": (0.70, 0.50, 0.30),
    "0004": (0.65, 0.95, 0.90),
    "0005": (2.00, 1.90, 1.80),
}


def show(scheduler, name: str, curve: tuple[float, ...], run: RunDirectory | None = None) -> int | None:
    """Reports until the scheduler stops the trial; returns the step, or None when it ran to its end."""
    trial = _Past(name)
    scheduler.on_trial_add(None, trial)
    for step, loss in zip(STEPS, curve, strict=True):
        report = {"step": step, "eval_loss": loss, "checkpoint": f"step-{step:06d}"}
        if run:
            run.trial(name).root.mkdir(parents=True, exist_ok=True)
            append_metrics(run.trial(name).metrics, report)
        if scheduler.on_trial_result(None, trial, report) == TrialScheduler.STOP and step < STEPS[-1]:
            return step
    return None


def test_the_weak_are_stopped_at_a_rung_and_the_best_go_on(make_experiment) -> None:
    experiment = make_experiment()
    scheduler = make_scheduler(experiment, experiment.search)
    stopped = {name: show(scheduler, name, curve) for name, curve in CURVES.items()}
    assert stopped["0000"] is None and stopped["0001"] is None and stopped["0003"] is None
    assert stopped["0002"] == 5 and stopped["0005"] == 5
    assert stopped["0004"] == 15


def test_without_a_scheduler_every_trial_runs_to_its_end(make_experiment, run) -> None:
    experiment = make_experiment(scheduler={"type": "none"})
    scheduler = make_scheduler(experiment, experiment.search)
    assert isinstance(scheduler, FIFOScheduler)
    replay(scheduler, experiment.search, run, ["0000"])
    assert {show(scheduler, name, curve) for name, curve in CURVES.items()} == {None}


@pytest.mark.parametrize("done", [1, 3, 5])
def test_a_resumed_scheduler_stops_the_trials_that_the_uninterrupted_one_stops(make_experiment, run, done) -> None:
    experiment = make_experiment()
    names = list(CURVES)
    whole = make_scheduler(experiment, experiment.search)
    expected = {name: show(whole, name, CURVES[name], run) for name in names}

    resumed = make_scheduler(experiment, experiment.search)
    replay(resumed, experiment.search, run, names[:done])
    assert {name: show(resumed, name, CURVES[name]) for name in names[done:]} == {
        name: expected[name] for name in names[done:]
    }
    fresh = make_scheduler(experiment, experiment.search)
    if done == 5:
        assert show(fresh, "0005", CURVES["0005"]) is None, "without the past, the worst trial looks like the best"


def test_reports_that_the_search_never_saw_do_not_move_the_bar(make_experiment, run) -> None:
    """A diverged trial's last line has no checkpoint; a stopped trial's worker may report once more before it ends."""
    experiment = make_experiment()
    whole = make_scheduler(experiment, experiment.search)
    for name in ("0000", "0001", "0002"):
        show(whole, name, CURVES[name], run)
    append_metrics(run.trial("0002").metrics, {"step": 15, "eval_loss": 0.01, "checkpoint": "step-000015"})
    run.trial("0009").root.mkdir()
    append_metrics(run.trial("0009").metrics, {"step": 5, "eval_loss": 1e9, "checkpoint": None})

    resumed = make_scheduler(experiment, experiment.search)
    replay(resumed, experiment.search, run, ["0000", "0001", "0002", "0009"])
    records = [
        [(rung, dict(recorded)) for rung, recorded in scheduler._brackets[0]._rungs] for scheduler in (whole, resumed)
    ]
    assert records[0] == records[1]


def test_a_finished_trial_without_a_curve_is_no_obstacle(make_experiment, run) -> None:
    experiment = make_experiment()
    scheduler = make_scheduler(experiment, experiment.search)
    replay(scheduler, experiment.search, run, ["0000"])
    assert show(scheduler, "0001", CURVES["0001"]) is None
