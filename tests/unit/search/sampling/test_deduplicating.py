"""Proposals that a study holds already, or as good as, are drawn again; nothing else changes."""

from __future__ import annotations

import itertools
from typing import Any

import optuna
import pytest

from raytune_ft.config.search.search import Parameter, SearchSpace
from raytune_ft.search.sampling.attributes import OUTCOME_ATTRIBUTE
from raytune_ft.search.sampling.deduplicating import NEAR, DeduplicatingSampler
from raytune_ft.search.sampling.space import suggest

RANK, BATCH, RATE, DROPOUT, KIND = "method.r", "train.batch", "train.learning_rate", "method.dropout", "method.type"
DISCRETE = {RANK: {"choice": [4, 8, 16]}, BATCH: {"choice": [2, 4]}}


pytestmark = pytest.mark.usefixtures("quiet")


def space(parameters: dict[str, dict[str, Any]]) -> SearchSpace:
    return SearchSpace.model_validate({"parameters": parameters})


def study(searched: SearchSpace, **options: Any) -> optuna.Study:
    tpe = optuna.samplers.TPESampler(seed=1, n_startup_trials=2, **options)
    return optuna.create_study(sampler=DeduplicatingSampler(tpe, searched, {}, seed=1))


def run(of: optuna.Study, searched: SearchSpace, trials: int) -> list[dict[str, Any]]:
    """The best is always where the rate is lowest, so a plain TPE comes back there."""
    found = []
    for _ in range(trials):
        trial = of.ask()
        found.append(suggest(trial, searched, {}))
        of.tell(trial, float(found[-1].get(RATE, 0.0) + found[-1].get(RANK, 0)))
    return found


@pytest.mark.parametrize("together", [True, False])
def test_a_space_of_choices_is_gone_through_without_a_repetition_and_then_goes_on(together: bool) -> None:
    searched = space(DISCRETE)
    found = run(study(searched, multivariate=together), searched, 8)
    assert len({tuple(each.values()) for each in found[:6]}) == 6
    assert len(found) == 8  # nothing is left, and a search still gets its trials


def test_what_tpe_alone_would_repeat_it_does_repeat() -> None:
    searched = space(DISCRETE)
    plain = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=2))
    assert len({tuple(each.values()) for each in run(plain, searched, 6)}) < 6


def test_rates_keep_a_distance_in_their_own_scale() -> None:
    searched = space({RATE: {"loguniform": [1e-4, 1e-2]}})
    rates = sorted(each[RATE] for each in run(study(searched), searched, 5))
    assert all(high / low > 100**NEAR for low, high in itertools.pairwise(rates))


def test_a_search_of_one_setting_still_closes_in_on_the_best() -> None:
    searched = space({RATE: {"loguniform": [1e-4, 1e-2]}})
    found = [each[RATE] for each in run(study(searched), searched, 30)]
    assert min(found) < 1.1e-4
    late = sorted(found[15:])
    assert late[len(late) // 2] < 3e-4, "the model proposes, not chance"


def test_what_a_node_that_died_had_may_be_tried_again_and_what_diverged_not() -> None:
    searched = space({RANK: {"choice": [4, 8]}})
    again: dict[str, set[int]] = {"failed": set(), "diverged": set()}
    for outcome, found in again.items():
        for seed in range(6):
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=2)
            of = optuna.create_study(sampler=DeduplicatingSampler(sampler, searched, {}, seed))
            of.enqueue_trial({RANK: 4})
            trial = of.ask()
            suggest(trial, searched, {})
            trial.set_user_attr(OUTCOME_ATTRIBUTE, outcome)
            of.tell(trial, state=optuna.trial.TrialState.FAIL)
            found.add(suggest(of.ask(), searched, {})[RANK])
    assert again == {"failed": {4, 8}, "diverged": {8}}


def test_a_trial_that_was_begun_before_the_driver_was_killed_keeps_what_it_has() -> None:
    searched = space({KIND: {"choice": ["lora", "full"]}, RANK: {"choice": [4, 8], "when": {KIND: "lora"}}})
    kinds = optuna.distributions.CategoricalDistribution(["lora", "full"])
    for seed in range(8):
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=2)
        of = optuna.create_study(sampler=DeduplicatingSampler(sampler, searched, {}, seed))
        trial = of.ask()
        trial.storage.set_trial_param(trial._trial_id, KIND, 0, kinds)
        assert suggest(optuna.Trial(of, trial._trial_id), searched, {})[RANK] in (4, 8)


def test_many_trials_may_come_closer_and_are_still_no_repetitions() -> None:
    searched = space({RATE: {"loguniform": [1e-4, 1e-2]}})
    rates = sorted(each[RATE] for each in run(study(searched), searched, 60))
    assert len(set(rates)) == 60


def test_what_was_enqueued_counts_as_tried_and_keeps_its_values() -> None:
    searched = space(DISCRETE)
    of = study(searched)
    of.enqueue_trial({RANK: 4, BATCH: 2})
    of.enqueue_trial({RANK: 8})  # the batch is drawn beside it
    found = run(of, searched, 6)
    assert found[0] == {RANK: 4, BATCH: 2} and found[1][RANK] == 8
    assert len({tuple(each.values()) for each in found}) == 6


def test_conditions_keep_their_meaning() -> None:
    searched = space(
        {
            KIND: {"choice": ["lora", "full"]},
            RANK: {"choice": [4, 8], "when": {KIND: "lora"}},
            DROPOUT: {"choice": [0.1]},
        }
    )
    found = run(study(searched, multivariate=True, group=True), searched, 3)
    assert sorted((each[KIND], each.get(RANK)) for each in found) == [("full", None), ("lora", 4), ("lora", 8)]
    assert all((RANK in each) == (each[KIND] == "lora") and each[DROPOUT] == 0.1 for each in found)


@pytest.mark.parametrize(
    ("parameter", "one", "other", "distance"),
    [
        ({"loguniform": [1e-4, 1e-2]}, 1e-4, 1e-3, 0.5),
        ({"uniform": [0.0, 2.0]}, 0.5, 1.0, 0.25),
        ({"randint": [10, 20]}, 20, 10, 1.0),
        ({"choice": ["a", "b"]}, "a", "b", 1.0),
        ({"choice": [4, 8]}, 8, 8, 0.0),
        ({"uniform": [1.0, 1.0]}, 1.0, 1.0, 0.0),
    ],
)
def test_the_distance_of_two_values(parameter: dict[str, Any], one: Any, other: Any, distance: float) -> None:
    assert Parameter.model_validate(parameter).distance(one, other) == pytest.approx(distance)
