"""What is enqueued before the first trial."""

from __future__ import annotations

from optuna.trial import TrialState

from raytune_ft.search.earlier_studies.portfolio import enqueue_first
from raytune_ft.search.sampling.space import suggest
from raytune_ft.search.study.study import open_study

RATE, RANK = "train.learning_rate", "method.r"
SPACE = {
    "parameters": {RATE: {"loguniform": [1e-4, 1e-2]}, RANK: {"choice": [4, 8, 16]}},
    "start_from": [{RATE: 5e-3, RANK: 4}],
}
PORTFOLIO = {
    "type": "portfolio",
    "first": 3,
    "configurations": [{RATE: 2e-3, RANK: 8}, {RATE: 5e-3, RANK: 4}, {RATE: 0.5, RANK: 32}, {RATE: 1e-4, RANK: 4}],
}
WANTED = [{RATE: 5e-3, RANK: 4}, {RATE: 2e-3, RANK: 8}, {RATE: 1e-2, RANK: 16}]


def run_trials(study, search, count: int) -> list[dict]:
    """Asks and ends `count` trials; what they were."""
    found = []
    for _ in range(count):
        trial = study.ask()
        found.append(suggest(trial, search.space, {}))
        study.tell(trial, abs(found[-1][RATE] - 2e-3))
    return found


def test_start_from_comes_first_then_the_portfolio_fitted_into_the_space_then_the_model(make_experiment, run) -> None:
    experiment = make_experiment(space=SPACE, algorithm=PORTFOLIO)
    study = open_study(experiment, experiment.search, run)
    enqueue_first(study, experiment)
    found = run_trials(study, experiment.search, 5)
    assert found[:3] == WANTED
    assert found[3] not in WANTED and found[4] not in WANTED


def test_a_driver_that_starts_again_enqueues_only_what_is_not_there_yet(make_experiment, run) -> None:
    experiment = make_experiment(space=SPACE, algorithm=PORTFOLIO)
    first = open_study(experiment, experiment.search, run)
    first.enqueue_trial(WANTED[0])  # and then it was killed
    for ended in (2, 1):
        study = open_study(experiment, experiment.search, run)
        enqueue_first(study, experiment)
        run_trials(study, experiment.search, ended)
    trials = open_study(experiment, experiment.search, run).get_trials(states=(TrialState.COMPLETE,))
    assert [trial.params for trial in trials] == WANTED
    study = open_study(experiment, experiment.search, run)
    enqueue_first(study, experiment)
    assert study.get_trials(states=(TrialState.WAITING,)) == []


def test_after_the_portfolio_the_model_proposes_at_once(make_experiment, run) -> None:
    """With random trials first, a seed's fourth trial would not depend on how the first three went."""
    drawn = []
    for sign in (1, -1):
        experiment = make_experiment(space=SPACE, algorithm=PORTFOLIO)
        study = open_study(experiment, experiment.search, type(run)(run.root / str(sign)))
        enqueue_first(study, experiment)
        for _ in range(3):
            trial = study.ask()
            study.tell(trial, sign * suggest(trial, experiment.search.space, {})[RATE])
        drawn.append(suggest(study.ask(), experiment.search.space, {}))
    assert drawn[0] != drawn[1]
