"""How many trials a plan expects at each step, by scheduler."""

from __future__ import annotations

from raytune_ft.search.planning.bounds import Bounds
from raytune_ft.search.planning.rungs import plain_halving_steps, plan_rungs, sweep_steps
from raytune_ft.search.planning.work import work_of

RATE = {"train.learning_rate": {"loguniform": [1e-4, 1e-2]}}


def test_all_of_a_population_may_train_to_the_end(make_experiment) -> None:
    experiment = make_experiment(scheduler={"type": "pbt", "perturbation_interval": 15}, trials=4)
    assert [(rung.step, rung.trials) for rung in plan_rungs(experiment, 4)] == [
        (15, Bounds(4, 4)),
        (30, Bounds(4, 4)),
        (45, Bounds(4, 4)),
    ]
    assert sweep_steps(experiment, 4) == Bounds(180, 180)


def test_the_median_rule_spares_the_first_ones(make_experiment) -> None:
    experiment = make_experiment(scheduler={"type": "median", "grace_period": 15, "min_samples_required": 3}, trials=8)
    assert [(rung.step, rung.trials) for rung in plan_rungs(experiment, 8)] == [
        (15, Bounds(8, 8)),
        (30, Bounds(3, 8)),
        (45, Bounds(3, 8)),
    ]
    assert sweep_steps(experiment, 8) == Bounds(8 * 15 + 3 * 30, 8 * 45)


def test_the_median_rule_stays_within_its_bounds(make_experiment, simulate) -> None:
    scheduler = {"type": "median", "grace_period": 15}
    for seed, at_once in ((0, 1), (1, 3), (2, 8)):
        played = simulate(scheduler=scheduler, trials=8, max_concurrent=at_once, seed=seed, fresh=True).play()
        for rung in plan_rungs(make_experiment(scheduler=scheduler, trials=8), 8):
            assert rung.trials.least <= played.reached(rung.step) <= rung.trials.most


def test_a_last_bracket_that_stays_short_still_halves(make_experiment) -> None:
    experiment = make_experiment(scheduler={"type": "hyperband", "grace_period": 5, "reduction_factor": 3}, trials=11)
    rungs = plan_rungs(experiment, 11)  # nine in the first bracket; two of five in the second, and two have room
    assert [(rung.step, rung.halving) for rung in rungs] == [(5, 11), (15, 5), (45, 3)]
    assert plain_halving_steps(rungs) == 11 * 5 + 5 * 10 + 3 * 30 == sweep_steps(experiment, 11).most


def test_all_trials_may_be_too_short_for_a_step_where_their_steps_are_searched(make_experiment) -> None:
    experiment = make_experiment(space={"parameters": {"train.max_steps": {"choice": [20, 90]}}}, trials=6)
    assert [(rung.step, rung.trials, rung.halving) for rung in plan_rungs(experiment, 6)] == [
        (5, Bounds(6, 6), 6),
        (15, Bounds(1, 6), 2),
        (45, Bounds(0, 6), 6),
        (90, Bounds(0, 6), 6),
    ]
    assert sweep_steps(experiment, 6) == Bounds(20 + 5 * 5, 6 * 90)


def test_what_is_likely_counts_each_trials_own_steps(make_experiment) -> None:
    space = {"parameters": {"train.max_steps": {"choice": [100, 400]}}}  # in a file of 45 steps

    def fixed(steps: int):
        experiment = make_experiment(trials=8)
        return experiment.model_copy(update={"train": experiment.train.model_copy(update={"max_steps": steps})})

    for scheduler in ({"type": "none"}, {"type": "asha", "grace_period": 5, "reduction_factor": 3}):
        experiment = make_experiment(space=space, scheduler=scheduler, trials=8)
        work = work_of(experiment, sweep_steps(experiment, 8), None, None)
        assert work.steps.low <= work.steps.likely <= work.steps.high == 8 * 400
        if scheduler["type"] == "none":
            assert (work.steps.likely, work.reports.likely, work.reports.high) == (8 * 250, 8.0, 8.0)
        else:
            assert work.reports.high == 8 * 5  # 5, 15, 45, 135 and 400
            alone = [work_of(each, sweep_steps(each, 8), None, None).steps.likely for each in map(fixed, (100, 400))]
            assert alone[0] < work.steps.likely < alone[1]
