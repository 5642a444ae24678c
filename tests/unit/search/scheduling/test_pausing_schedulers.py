"""Hyperband, the median rule and populations, over a simulated Ray Tune."""

from __future__ import annotations

import json
import math
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from raytune_ft.config.search.rungs import brackets, rungs
from raytune_ft.config.search.schedulers import Hyperband, Median, Pb2, Pbt
from raytune_ft.search.planning.rungs import plan_rungs, sweep_steps
from raytune_ft.search.scheduling.replay import PastTrial, replay
from raytune_ft.search.scheduling.schedulers import make_scheduler
from raytune_ft.search.study.study import tell
from raytune_ft.training.outcome import Outcome, OutcomeKind

HYPERBAND = {"type": "hyperband", "grace_period": 5, "reduction_factor": 3}
RATE = "train.learning_rate"
PBT = {"type": "pbt", "perturbation_interval": 15}
PB2 = {"type": "pb2", "perturbation_interval": 5}
RANGE = {"parameters": {RATE: {"loguniform": [1e-4, 1e-2]}}}


def steps_in(played: Any) -> int:
    """Optimizer steps that were really trained, copies included."""
    total, at = 0, {}
    for name, step, _ in played.reports:
        total += step - at.get(name, 0)
        at[name] = step
    return total


@pytest.mark.parametrize(
    ("last", "grace", "factor", "expected"),
    [
        (81, 1, 3, [(81, (1, 3, 9, 27, 81)), (34, (3, 9, 27, 81)), (15, (9, 27, 81)), (8, (27, 81)), (5, (81,))]),
        (100, 10, 3, [(9, (11, 33, 100)), (5, (33, 100)), (3, (100,))]),
        (12, 12, 2, [(1, (12,))]),
    ],
)
def test_brackets_are_the_papers(last: int, grace: int, factor: int, expected: list[Any]) -> None:
    """Table 1 of Li et al. 2018 has 81, 34 (there 27), 15 (9), 8 (6), 5: it rounds n down where its text rounds up."""
    scheduler = Hyperband(grace_period=grace, reduction_factor=factor)
    assert [(bracket.trials, bracket.rungs) for bracket in brackets(scheduler, last)] == expected
    assert rungs(scheduler, last, None) == expected[0][1][:-1]


def test_a_bracket_waits_until_it_is_full_and_then_one_in_three_goes_on(simulate) -> None:
    played = simulate(scheduler=HYPERBAND, trials=9).play()
    assert [step for _, step, _ in played.reports] == [5] * 9 + [15] * 3 + [45]
    first = {name: loss for name, step, loss in played.reports if step == 5}
    best = sorted(first, key=first.__getitem__)
    assert {name for name, step, _ in played.reports if step == 15} == set(best[:3])
    assert [name for name, step, _ in played.reports if step == 45] == best[:1]
    assert played.outcomes[best[0]].kind is OutcomeKind.completed
    pruned = played.outcomes[best[-1]]
    assert (pruned.kind, pruned.step) == (OutcomeKind.pruned, 5) and "hyperband at step 5" in pruned.reason
    assert pruned.value == first[best[-1]]
    states = [trial.state for trial in played.study.trials]
    assert states.count(TrialState.PRUNED) == 8 and states.count(TrialState.COMPLETE) == 1
    assert played.pauses == 9 + 3


def test_a_bracket_ends_before_the_next_one_begins(simulate) -> None:
    """So that a model which proposes the next bracket's trials has learned from this one's."""
    played = simulate(scheduler={**HYPERBAND, "type": "bohb"}, trials=17).play()
    begun = [name for name, step, _ in played.reports]
    assert begun.index("0009") > max(at for at, (name, step, _) in enumerate(played.reports) if int(name) < 9)
    assert played.reached(45) == 1 + 2 + 3


@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("trials", [1, 4, 9, 12, 20])
def test_the_plan_of_hyperband_is_what_happens(simulate, make_experiment, trials: int, at_once: int) -> None:
    experiment = make_experiment(scheduler=HYPERBAND, trials=trials, max_concurrent=at_once)
    played = simulate(scheduler=HYPERBAND, trials=trials, max_concurrent=at_once, seed=trials).play()
    planned = plan_rungs(experiment, trials)
    assert [(rung.step, rung.trials.least, rung.trials.most) for rung in planned] == [
        (step, played.reached(step), played.reached(step)) for step in (5, 15, 45)
    ]
    assert sweep_steps(experiment, trials).least == steps_in(played) == sweep_steps(experiment, trials).most


def test_a_trial_that_dies_neither_halves_a_bracket_that_still_fills_nor_holds_it_up(simulate) -> None:
    played = simulate(scheduler=HYPERBAND, trials=9, dies={"0004": 5, "0008": 5}).play()
    assert [step for _, step, _ in played.reports] == [5] * 7 + [15] * 3 + [45]
    assert played.outcomes["0004"].kind is OutcomeKind.diverged


def test_a_resumed_hyperband_ends_with_the_asked_trials_and_each_goes_on_from_where_it_was(simulate) -> None:
    simulate(scheduler=HYPERBAND, trials=9, max_concurrent=2).play(until=11)
    left = sum(not trial.state.is_finished() for trial in simulate(scheduler=HYPERBAND, trials=9).study.trials)
    assert left > 0
    resumed = simulate(scheduler=HYPERBAND, trials=9, wanted=left).play()
    assert len(resumed.study.trials) == 9
    assert all(trial.state.is_finished() for trial in resumed.study.trials)


@pytest.mark.parametrize(("eval_steps", "looks"), [(None, (15, 30)), (10, (20, 30, 40)), (15, (15, 30))])
def test_the_median_rule_looks_at_each_report_from_its_grace_on(eval_steps: int | None, looks: tuple[int, ...]) -> None:
    assert rungs(Median(grace_period=15), 45, eval_steps) == looks


def test_the_median_rule_stops_who_is_worse_than_half_and_pauses_nobody(simulate) -> None:
    rates = [5e-3, 6e-3, 7e-3, 1e-4, 9e-3, 2e-4, 1e-2, 5e-3]
    start_from = [{RATE: rate} for rate in rates]
    played = simulate(
        space={**RANGE, "start_from": start_from},
        scheduler={"type": "median", "grace_period": 15},
        trials=8,
        dies={"0004": 3},
    ).play()
    kinds = {name: str(outcome.kind) for name, outcome in played.outcomes.items()}
    assert [kinds[f"{number:04d}"] for number in (0, 1, 2, 6)] == ["completed"] * 4
    assert kinds["0003"] == kinds["0005"] == "pruned" and kinds["0004"] == "diverged"
    assert played.outcomes["0003"].step == 15
    assert played.pauses == 0


def test_a_resumed_median_rule_knows_who_came_before(make_experiment, quiet) -> None:
    study = optuna.create_study()
    for loss in (0.5, 0.4, 0.6):
        trial = study.ask()
        for step in (15, 30, 45):
            trial.report(loss, step)
        tell(study, trial, Outcome(OutcomeKind.completed, "", 45, loss))
    tell(study, study.ask(), Outcome(OutcomeKind.diverged, ""))
    experiment = make_experiment(scheduler={"type": "median", "grace_period": 15})
    for trials, decision in (([], "CONTINUE"), (study.trials, "STOP")):
        scheduler = make_scheduler(experiment, experiment.search)
        replay(scheduler, experiment.search, trials)
        new = PastTrial.of("0004", {})
        assert scheduler.on_trial_result(None, new, {"step": 15, "eval_loss": 0.7}) == decision


def test_a_trial_that_goes_on_is_not_compared_with_itself_by_the_median_rule(make_experiment, quiet) -> None:
    study = optuna.create_study()
    for _ in range(3):
        study.ask().report(0.5, 15)
    experiment = make_experiment(scheduler={"type": "median", "grace_period": 15, "min_samples_required": 3})
    scheduler = make_scheduler(experiment, experiment.search)
    replay(scheduler, experiment.search, study.trials)
    goes_on = PastTrial("of another driver", {"trial": "0000", "parameters": {}})
    for step in (15, 30):  # a lane repeats its last report; two others are too few to judge by
        assert scheduler.on_trial_result(None, goes_on, {"step": step, "eval_loss": 0.7}) == "CONTINUE"
    assert len(scheduler._results) == 3


def test_each_of_the_worst_goes_on_from_one_of_the_best_with_other_settings(simulate) -> None:
    played = simulate(scheduler=PBT, trials=8, space=RANGE).play()
    assert all(outcome.kind is OutcomeKind.completed for outcome in played.outcomes.values())
    copied = {f"{trial.number:04d}": trial.user_attrs.get("copies", []) for trial in played.study.trials}
    assert sum(map(len, copied.values())) == 2 + 2  # a quarter of eight, at steps 15 and 30
    for name, copies in copied.items():
        for copy in copies:
            donor, step = copy["copied"]["trial"], copy["copied"]["step"]
            assert donor != name
            at, after = dict(played.curve(donor))[step], dict(played.curve(name))[step + 15]
            assert dict(played.curve(name))[step] > at  # it was worse
            rate = copy["parameters"][RATE]
            assert after == pytest.approx(at - rate * 15)  # and went on from the donor's weights at a new rate
            assert 1e-4 <= rate <= 1e-2
    first = json.loads(json.dumps(copied))
    assert first == copied  # the study's storage takes it as it is


def test_a_population_compares_only_at_the_same_step_whoever_trains_first(simulate) -> None:
    played = simulate(scheduler=PBT, trials=6, max_concurrent=2, space=RANGE, seed=3).play()
    steps = [step for _, step, _ in played.reports]
    assert steps == sorted(steps) == [15] * 6 + [30] * 6 + [45] * 6


@pytest.mark.parametrize("scheduler", [PBT, PB2], ids=["pbt", "pb2"])
def test_the_same_seed_gives_the_same_population(simulate, scheduler) -> None:
    import random

    import numpy as np

    curves = []
    for number in range(2):
        random.seed(number)
        np.random.seed(number)
        before = random.getstate()
        curves.append(simulate(scheduler=scheduler, trials=6, space=RANGE, fresh=True).play().reports)
        assert random.getstate() == before  # whoever else draws is not disturbed
    assert curves[0] == curves[1]


def test_a_copy_never_has_its_donors_settings(simulate) -> None:
    """A choice of two moved past its end stays where it is: the copy would train to the same weights."""
    space = {"parameters": {RATE: {"choice": [1e-3, 2e-3, 4e-3]}, "method.r": {"choice": [4, 8]}}}
    scheduler = {**PBT, "perturbation_interval": 5, "resample_probability": 0.0}
    played = simulate(scheduler=scheduler, trials=6, space=space).play()
    copies = [copy for trial in played.study.trials for copy in trial.user_attrs.get("copies", [])]
    assert copies
    assert {copy["parameters"][RATE] for copy in copies} <= {1e-3, 2e-3, 4e-3}


def test_a_population_may_shrink(simulate) -> None:
    played = simulate(scheduler=PBT, trials=5, dies={"0004": 10, "0001": 20, "0002": 40}, space=RANGE).play()
    kinds = [str(played.outcomes[f"{number:04d}"].kind) for number in range(5)]
    assert kinds == ["completed", "diverged", "diverged", "completed", "diverged"]


def test_settings_that_only_some_trials_have_change_only_there(simulate) -> None:
    conditional = {"uniform": [0.0, 0.5], "when": {"method.r": 8}}
    space = {"parameters": {**RANGE["parameters"], "method.r": {"choice": [4, 8]}, "method.dropout": conditional}}
    played = simulate(scheduler={**PBT, "perturbation_interval": 5}, trials=8, space=space).play()
    copies = [copy for trial in played.study.trials for copy in trial.user_attrs.get("copies", [])]
    assert copies
    for copy in copies:
        assert ("method.dropout" in copy["parameters"]) == (copy["parameters"]["method.r"] == 8)


def test_pb2_learns_on_the_scale_of_the_space_and_stays_in_it(simulate) -> None:
    played = simulate(scheduler=PB2, trials=6, space=RANGE).play()
    data = played.scheduler._inside.data
    places = data[f"parameters/{RATE}"].astype(float)
    assert places.between(math.log(1e-4) - 1e-6, math.log(1e-2) + 1e-6).all()
    rates = [copy["parameters"][RATE] for trial in played.study.trials for copy in trial.user_attrs.get("copies", [])]
    assert len(rates) == 8 * 2 and all(1e-4 <= rate <= 1e-2 for rate in rates)
    late = rates[len(rates) // 2 :]
    assert max(late) > 5e-3  # a higher rate is better here, and it found that out


def test_a_resumed_population_goes_on_with_what_it_copied(simulate) -> None:
    killed = simulate(scheduler=PBT, trials=6, space=RANGE).play(until=8)
    copied = {
        trial.number: trial.user_attrs["copies"][-1] for trial in killed.study.trials if "copies" in trial.user_attrs
    }
    assert copied
    resumed = simulate(scheduler=PBT, trials=6, space=RANGE)
    configs = [resumed.searcher.suggest(f"u{number}") for number in range(6)]
    assert ["copied" in config for config in configs] == [True] * len(copied) + [False] * (6 - len(copied))
    for config in configs[: len(copied)]:
        copy = copied[int(config["trial"])]
        assert (config["parameters"], config["copied"]) == (copy["parameters"], copy["copied"])


@pytest.mark.parametrize("kind", [Pbt, Pb2])
def test_a_population_is_looked_at_in_even_steps_before_the_last(kind: Any) -> None:
    assert rungs(kind(perturbation_interval=15), 45, None) == (15, 30)
    assert rungs(kind(perturbation_interval=10), 45, 4) == (10, 20, 30, 40)
