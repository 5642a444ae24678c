"""What samplers see of a study: trials that failed or were stopped count, and the study itself stays as it is."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from raytune_ft.config.search.goals import Metric
from raytune_ft.search.sampling.deduplicating import DeduplicatingSampler
from raytune_ft.search.sampling.sampler_history import SamplerCapabilities, SamplerHistory, ShownStudy, ShownTrial
from raytune_ft.search.sampling.samplers import make_sampler
from raytune_ft.search.sampling.space import suggest
from raytune_ft.search.sampling.study_view import ViewingSampler
from raytune_ft.search.study.study import open_study, record, tell
from raytune_ft.training.outcome import Outcome, OutcomeKind

RATE, RANK = "train.learning_rate", "method.r"
SPACE = {
    "parameters": {RATE: {"loguniform": [1e-5, 1e-1]}, RANK: {"choice": [4, 8, 16, 32, 64, 128]}},
}
DIVERGES, TOO_LARGE = 1e-3, 32  # the upper half of the space, by rate or by rank
LOSS = (Metric(name="eval_loss"),)


pytestmark = pytest.mark.usefixtures("quiet")


def outcome(kind: OutcomeKind, parameters: dict[str, Any]) -> Outcome:
    """How a trial ends where what is too high, rate or rank, fails as `kind`."""
    rate, rank = parameters[RATE], parameters[RANK]
    if rate > DIVERGES if kind is OutcomeKind.diverged else rank >= TOO_LARGE:
        return Outcome(kind, "it failed", 2)
    return Outcome(OutcomeKind.completed, "", 45, 0.3 + 0.1 * (math.log10(rate) + 3.4) ** 2)


def bad_share(
    make_experiment: Callable[..., Any], algorithm: dict[str, Any], kind: OutcomeKind, seed: int, count: int, view: bool
) -> float:
    """The share of `count` proposals that fail, after eight trials that failed and four that did not."""
    experiment = make_experiment(space=SPACE, algorithm={**algorithm, "seed": seed})
    sampler = make_sampler(experiment.search, experiment, 0)
    viewing = sampler._sampler if isinstance(sampler, DeduplicatingSampler) else sampler
    assert isinstance(viewing, ViewingSampler)
    study = optuna.create_study(sampler=viewing if view else viewing._sampler)
    draw = random.Random(seed)
    known: list[dict[str, Any]] = []
    while len(known) < 12:
        one = {RATE: 10 ** draw.uniform(-5, -1), RANK: draw.choice([4, 8, 16, 32, 64, 128])}
        if (outcome(kind, one).kind is kind) == (len(known) < 8):
            known.append(one)
    for each in known:
        study.enqueue_trial(each)
    failed = 0
    for index in range(len(known) + count):
        trial = study.ask()
        end = outcome(kind, suggest(trial, experiment.search.space, {}))
        failed += end.kind is kind and index >= len(known)
        tell(study, trial, end)
    return failed / count


@pytest.mark.parametrize("kind", [OutcomeKind.diverged, OutcomeKind.out_of_memory])
@pytest.mark.parametrize(
    ("algorithm", "seeds", "count", "most"),
    [
        ({"type": "tpe"}, 12, 6, 0.25),
        ({"type": "gp"}, 2, 2, 0.3),
        ({"type": "nsga2", "population_size": 4}, 48, 6, 0.36),
    ],
)
def test_a_sampler_that_sees_what_failed_proposes_less_of_it(
    make_experiment, algorithm: dict[str, Any], seeds: int, count: int, most: float, kind: OutcomeKind
) -> None:
    seen, unseen = (
        sum(bad_share(make_experiment, algorithm, kind, seed, count, view) for seed in range(seeds)) / seeds
        for view in (True, False)
    )
    assert seen < most, f"half of the space fails, and {seen:.2f} of the proposals"
    assert seen + 0.1 < unseen, f"{unseen:.2f} without the view"


def test_the_study_on_disk_stays_truthful(make_experiment, run) -> None:
    experiment = make_experiment(algorithm={"type": "tpe", "n_startup_trials": 0})
    study = open_study(experiment, experiment.search, run)
    for kind in (OutcomeKind.diverged, OutcomeKind.out_of_memory, OutcomeKind.failed, OutcomeKind.pruned):
        trial = study.ask()
        suggest(trial, experiment.search.space, {})
        trial.report(0.5, 5)
        tell(study, trial, Outcome(kind, "", 5, 0.5))
    suggest(study.ask(), experiment.search.space, {})

    trials = optuna.load_study(study_name="toy", storage=f"sqlite:///{run.study}").trials
    fail, stopped, running = TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING
    assert [trial.state for trial in trials] == [fail, fail, fail, stopped, running]
    assert [trial.values for trial in trials] == [None, None, None, [0.5], None]
    assert [trial.constraints for trial in trials] == [{}, {"memory": 1.0}, {}, {}, {}]


def frozen(number: int, state: TrialState, value: float | None = None, **more: Any) -> optuna.trial.FrozenTrial:
    trial = optuna.trial.create_trial(state=state, value=value, **more)
    trial.number = number
    return trial


def study_of_one_goal() -> list[optuna.trial.FrozenTrial]:
    return [
        frozen(0, TrialState.COMPLETE, 0.3, intermediate_values={5: 0.5, 45: 0.3}),
        frozen(1, TrialState.PRUNED, 0.6, intermediate_values={5: 0.6}),
        frozen(2, TrialState.FAIL, user_attrs={"outcome": "diverged", "step": 1}),
        frozen(3, TrialState.FAIL, user_attrs={"outcome": "out_of_memory"}, system_attrs={"constraints:memory": 1.0}),
        frozen(4, TrialState.FAIL, user_attrs={"outcome": "failed"}),
        frozen(5, TrialState.RUNNING),
    ]


def test_who_looks_at_complete_trials_alone_sees_stopped_ones_at_their_worth_and_failed_ones_as_bad() -> None:
    shown = SamplerHistory(LOSS, SamplerCapabilities()).trials(study_of_one_goal())
    complete, fail, running = TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING
    assert [trial.state for trial in shown] == [complete, complete, complete, complete, fail, running]
    assert [trial.value for trial in shown[:2]] == pytest.approx([0.3, 0.4])
    assert shown[3].value > shown[2].value > 0.4
    assert not any(trial.constraints for trial in shown)


def test_who_knows_stopped_and_infeasible_trials_sees_them_as_such() -> None:
    shown = SamplerHistory(LOSS, SamplerCapabilities(stopped=True, constraints=True)).trials(study_of_one_goal())
    assert shown[1].state is TrialState.PRUNED and shown[1].intermediate_values == {5: 0.6}
    assert [trial.constraints for trial in shown] == [{}, {}, {"trains": 0.5}, {"trains": 1.0}, {}, {}]


def test_what_is_shown_follows_the_study() -> None:
    seen, trials = SamplerHistory(LOSS, SamplerCapabilities()), study_of_one_goal()
    before = seen.trials(trials)[2].value
    trials[5] = frozen(5, TrialState.COMPLETE, 9.0)
    after = seen.trials(trials)
    assert after[5].value == 9.0 and after[2].value > 9.0 > before
    assert trials[2].state is TrialState.FAIL and trials[2].values is None


def test_earlier_trials_come_first_and_the_own_ones_follow_in_number() -> None:
    points = (
        ShownTrial({RATE: 1e-3}, {}, (4.0,), 45),
        ShownTrial({RATE: 1e-2}, {}, (6.0,), 45),
        ShownTrial({RATE: 1e-1}, {}, None, 3),
    )
    seen = SamplerHistory(
        LOSS, SamplerCapabilities(constraints=True, generation="g"), [ShownStudy(points, comparable=False)]
    )
    shown = seen.trials(study_of_one_goal())
    assert [trial.number for trial in shown] == list(range(9))
    assert len({trial._trial_id for trial in shown[:3]}) == 3 and max(trial._trial_id for trial in shown[:3]) < -1
    assert shown[0].value == pytest.approx(0.3), "the best of theirs is as good as the best here"
    assert shown[1].value == pytest.approx(2.3) and shown[2].value > 2.3
    assert shown[2].constraints and not shown[0].constraints
    assert [trial.system_attrs.get("g") for trial in shown] == [0] * 7 + [None] * 2
    assert seen.own(study_of_one_goal()[5]).number == 8


def test_values_of_the_same_study_are_shown_as_they_are() -> None:
    source = ShownStudy((ShownTrial({}, {}, (4.0,), 45), ShownTrial({}, {}, (6.0,), 45)), comparable=True)
    assert [
        trial.value for trial in SamplerHistory(LOSS, SamplerCapabilities(), [source]).trials(study_of_one_goal())[:2]
    ] == [4.0, 6.0]


def test_a_goal_that_is_to_be_great_keeps_its_sign() -> None:
    goals = (*LOSS, Metric(name="tokens", mode="max"))
    failed = frozen(1, TrialState.FAIL, user_attrs={"outcome": "diverged"})
    stopped = frozen(
        2, TrialState.PRUNED, user_attrs={"curve": [[5, 0.6]], "values": {"eval_loss": 0.6, "tokens": 10.0}}
    )
    whole = frozen(0, TrialState.COMPLETE, user_attrs={"curve": [[5, 0.5], [10, 0.3]]}, values=[0.3, 30.0])
    shown = SamplerHistory(goals, SamplerCapabilities(stopped=True, constraints=True)).trials([whole, failed, stopped])
    assert shown[0].values == [0.3, 30.0]
    assert shown[1].values[0] > 0.4 and shown[1].values[1] < 20.0
    assert shown[2].state is TrialState.COMPLETE and shown[2].values == pytest.approx([0.4, 20.0])


@pytest.mark.parametrize(
    "algorithm",
    [
        {"type": "tpe"},
        {"type": "gp", "n_startup_trials": 6},
        {"type": "nsga2", "population_size": 3},
        {"type": "nsga3", "population_size": 3},
        {"type": "random"},
        {"type": "quasi_random"},
        {"type": "grid"},
    ],
    ids=lambda each: each["type"],
)
def test_studies_of_several_goals_go_on_after_every_end(make_experiment, algorithm: dict[str, Any]) -> None:
    goals = [{"name": "eval_loss"}, {"name": "adapter_mib"}, {"name": "train_seconds"}]
    experiment = make_experiment(space=SPACE, algorithm=algorithm, metrics=goals, trials=12)
    sampler = make_sampler(experiment.search, experiment, 0)
    study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)
    kinds = [OutcomeKind.completed, OutcomeKind.pruned, OutcomeKind.diverged, OutcomeKind.completed]
    for kind in [*kinds, *kinds, OutcomeKind.out_of_memory]:
        trial = study.ask()
        parameters = suggest(trial, experiment.search.space, {})
        for step in (5, 45) if kind is OutcomeKind.completed else (5,):
            loss = abs(math.log10(parameters[RATE]) + 3) + 1 / step
            report = {"step": step, "eval_loss": loss, "adapter_mib": parameters[RANK], "seconds": 2.0 * step}
            record(study, trial, experiment.search, report)
        tell(study, trial, Outcome(kind, "", step, loss))
    assert [trial.state.is_finished() for trial in study.trials] == [True] * 9
