"""Who is stopped, and that a resumed sweep stops the same trials."""

from __future__ import annotations

import optuna
import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from raytune_ft.search.scheduling.replay import PastTrial, replay
from raytune_ft.search.scheduling.schedulers import make_scheduler
from raytune_ft.search.study.study import tell
from raytune_ft.training.outcome import Outcome, OutcomeKind

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


def show(scheduler, name: str, curve: tuple[float, ...], study: optuna.Study | None = None) -> int | None:
    """Reports until the scheduler stops the trial; returns the step, or None when it ran to its end."""
    trial, kept = PastTrial.of(name, {}), study.ask() if study else None
    scheduler.on_trial_add(None, trial)
    for step, loss in zip(STEPS, curve, strict=True):
        if kept:
            kept.report(loss, step)
        stops = scheduler.on_trial_result(None, trial, {"step": step, "eval_loss": loss}) == TrialScheduler.STOP
        if stops or step == STEPS[-1]:
            break
    if study and kept:
        tell(study, kept, Outcome(OutcomeKind.pruned if stops else OutcomeKind.completed, "", step, loss))
    return step if stops else None


def test_the_weak_are_stopped_at_a_rung_and_the_best_go_on(make_experiment) -> None:
    experiment = make_experiment()
    scheduler = make_scheduler(experiment, experiment.search)
    stopped = {name: show(scheduler, name, curve) for name, curve in CURVES.items()}
    assert stopped["0000"] is None and stopped["0001"] is None and stopped["0003"] is None
    assert stopped["0002"] == 5 and stopped["0005"] == 5
    assert stopped["0004"] == 15


def test_without_a_scheduler_every_trial_runs_to_its_end(make_experiment, quiet) -> None:
    experiment, study = make_experiment(scheduler={"type": "none"}), optuna.create_study()
    scheduler = make_scheduler(experiment, experiment.search)
    assert isinstance(scheduler, FIFOScheduler)
    replay(scheduler, experiment.search, study.trials)
    assert {show(scheduler, name, curve, study) for name, curve in CURVES.items()} == {None}


@pytest.mark.parametrize("done", [1, 3, 5])
def test_a_resumed_scheduler_stops_the_trials_that_the_uninterrupted_one_stops(make_experiment, quiet, done) -> None:
    experiment, study = make_experiment(), optuna.create_study()
    names = list(CURVES)
    whole = make_scheduler(experiment, experiment.search)
    expected = {name: show(whole, name, CURVES[name], study) for name in names}

    resumed = make_scheduler(experiment, experiment.search)
    replay(resumed, experiment.search, study.trials[:done])
    assert {name: show(resumed, name, CURVES[name]) for name in names[done:]} == {
        name: expected[name] for name in names[done:]
    }
    fresh = make_scheduler(experiment, experiment.search)
    if done == 5:
        assert show(fresh, "0005", CURVES["0005"]) is None, "without the past, the worst trial looks like the best"


def test_reports_that_the_search_never_saw_do_not_move_the_bar(make_experiment, quiet) -> None:
    """A stopped trial's worker may report once more before it ends, and all that it reported is on record."""
    experiment, study = make_experiment(), optuna.create_study()
    whole = make_scheduler(experiment, experiment.search)
    for name in ("0000", "0001"):
        show(whole, name, CURVES[name], study)
    show(whole, "0002", CURVES["0002"])
    stopped = study.ask()
    for step, loss in ((5, CURVES["0002"][0]), (15, 0.01)):
        stopped.report(loss, step)
    tell(study, stopped, Outcome(OutcomeKind.pruned, "stopped by asha at step 5", 5, CURVES["0002"][0]))

    resumed = make_scheduler(experiment, experiment.search)
    replay(resumed, experiment.search, study.trials)
    assert resumed.rungs == whole.rungs


def test_a_finished_trial_without_a_curve_is_no_obstacle(make_experiment, quiet) -> None:
    experiment, study = make_experiment(), optuna.create_study()
    scheduler = make_scheduler(experiment, experiment.search)
    tell(study, study.ask(), Outcome(OutcomeKind.failed, "a node died"))
    replay(scheduler, experiment.search, study.trials)
    assert show(scheduler, "0001", CURVES["0001"]) is None


def test_a_value_that_is_no_number_moves_no_bar(make_experiment) -> None:
    experiment = make_experiment()
    scheduler, trial = make_scheduler(experiment, experiment.search), PastTrial.of("0000", {})
    for value in (None, float("nan"), float("inf")):
        assert scheduler.on_trial_result(None, trial, {"step": 5, "eval_loss": value}) == "CONTINUE"
    assert scheduler.rungs == {5: {}, 15: {}}


def searching_steps(make_experiment, values: list[int], **parameter: object):
    space = {"parameters": {"train.max_steps": {"choice": values, **parameter}, "method.r": {"choice": [4, 8]}}}
    return make_experiment(space=space)  # in a file of 45 steps


def test_trials_train_to_ends_of_their_own_beyond_the_files(make_experiment) -> None:
    """The best of all was once stopped at the first report beyond the file's steps."""
    experiment = searching_steps(make_experiment, [15, 400])
    scheduler = make_scheduler(experiment, experiment.search)
    assert tuple(scheduler.rungs) == experiment.study_rungs() == (5, 15, 45, 135)
    long, short = PastTrial.of("0000", {"train.max_steps": 400}), PastTrial.of("0001", {"train.max_steps": 15})
    for trial, steps in ((long, (5, 15, 45, 135, 200, 400)), (short, (5, 15))):
        for step in steps:
            report = {"step": step, "eval_loss": 0.1 if trial is long or step < 15 else 0.5}
            assert scheduler.on_trial_result(None, trial, report) == TrialScheduler.CONTINUE
    # The shorter one ended by itself: its last value is none that another one has to beat, or that it is stopped by.
    assert {step: set(values) for step, values in scheduler.rungs.items()} == {
        5: {"0000", "0001"},
        15: {"0000"},
        45: {"0000"},
        135: {"0000"},
    }
    behind = PastTrial.of("0002", {"train.max_steps": 400})
    assert scheduler.on_trial_result(None, behind, {"step": 135, "eval_loss": 0.4}) == TrialScheduler.STOP


def test_where_only_some_trials_search_their_steps_the_files_are_possible_too(make_experiment) -> None:
    always = searching_steps(make_experiment, [10, 20])
    sometimes = searching_steps(make_experiment, [10, 20], when={"method.r": 4})
    assert (always.longest, sometimes.longest) == (20, 45)
    scheduler, trial = make_scheduler(sometimes, sometimes.search), PastTrial.of("0000", {"method.r": 8})
    assert scheduler.on_trial_result(None, trial, {"step": 15, "eval_loss": 0.5}) == TrialScheduler.CONTINUE
    assert scheduler.rungs == {5: {}, 15: {"0000": 0.5}}


def test_a_study_over_lengths_ends_each_trial_at_its_own_last_step_or_where_it_is_behind(simulate, quiet) -> None:
    lengths, rate = (15, 400, 15, 400, 100, 400), "train.learning_rate"
    space = {
        "parameters": {"train.max_steps": {"choice": [15, 100, 400]}, rate: {"loguniform": [1e-4, 1e-2]}},
        "start_from": [{"train.max_steps": steps, rate: 1e-3 * (6 - at)} for at, steps in enumerate(lengths)],
    }
    played = simulate(space=space, trials=6).play()  # in a file of 45 steps
    ends = {name: (str(outcome.kind), outcome.step) for name, outcome in sorted(played.outcomes.items())}
    assert list(ends.values())[:2] == [("completed", 15), ("pruned", 5)]
    best_first = simulate(space={**space, "start_from": space["start_from"][1:2]}, trials=1, fresh=True).play()
    assert best_first.outcomes["0000"].kind is OutcomeKind.completed and best_first.outcomes["0000"].step == 400
    assert [step for _, step, _ in best_first.reports] == [5, 15, 45, 135, 400]
    rising = [{"train.max_steps": steps, rate: 1e-3 * (1 + at)} for at, steps in enumerate(lengths)]
    played = simulate(space={**space, "start_from": rising}, trials=6, fresh=True).play()  # each is the best so far
    assert [played.outcomes[f"{at:04d}"].step for at in range(6)] == list(lengths)
    assert {str(outcome.kind) for outcome in played.outcomes.values()} == {"completed"}
    assert [trial.state.name for trial in played.study.trials] == ["COMPLETE"] * 6
