"""The study is told the truth about each trial, and proposes the same for the same seed."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState

from raytune_ft.errors import InputError
from raytune_ft.search.sampling.space import suggest
from raytune_ft.search.study.study import open_study, tell, trial_name
from raytune_ft.training.outcome import Outcome, OutcomeKind

REPORTED = {5: 0.9, 15: 0.5}


def end(experiment, run, kind: OutcomeKind, curve: dict[int, float]):
    """The trial as another process reads it after it ended as `kind`."""
    study = open_study(experiment, experiment.search, run)
    trial = study.ask()
    suggest(trial, experiment.search.space, {})
    for step, value in curve.items():
        trial.report(value, step)
    last = max(curve, default=0)
    tell(study, trial, Outcome(kind, "because", last, curve.get(last)))
    return open_study(experiment, experiment.search, run).trials[trial.number]


@pytest.mark.parametrize(
    ("kind", "curve", "state", "value"),
    [
        ("completed", REPORTED, TrialState.COMPLETE, 0.5),
        ("completed", {}, TrialState.FAIL, None),
        ("pruned", REPORTED, TrialState.PRUNED, 0.5),
        ("pruned", {}, TrialState.PRUNED, None),
        ("diverged", REPORTED, TrialState.FAIL, None),
        ("diverged", {5: float("nan")}, TrialState.FAIL, None),
        ("out_of_memory", {}, TrialState.FAIL, None),
        ("failed", REPORTED, TrialState.FAIL, None),
    ],
)
def test_each_outcome_has_its_state_and_keeps_its_curve(make_experiment, run, kind, curve, state, value) -> None:
    trial = end(make_experiment(), run, OutcomeKind(kind), curve)
    assert (trial.state, trial.value) == (state, value)
    assert list(trial.intermediate_values) == list(curve)
    assert trial.user_attrs == {"outcome": kind, "reason": "because", "step": max(curve, default=0)}
    assert trial.datetime_complete is not None


def proposals(experiment, run, count: int) -> list[dict]:
    study = open_study(experiment, experiment.search, run)
    drawn = []
    for index in range(count):
        trial = study.ask()
        drawn.append(suggest(trial, experiment.search.space, {}))
        tell(study, trial, Outcome(OutcomeKind.completed, "", 45, 0.5 + abs(index - 3)))
    return drawn


ALGORITHMS = ["tpe", "random", "quasi_random", "grid", "gp"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_seed_proposes_the_same_and_another_seed_something_else(make_experiment, run, algorithm) -> None:
    first, same, other = (
        proposals(make_experiment(algorithm={"type": algorithm, "seed": seed}), type(run)(run.root / str(index)), 8)
        for index, seed in enumerate((3, 3, 4))
    )
    assert first == same
    assert first != other and len({str(each) for each in first}) == 8


@pytest.mark.parametrize("algorithm", ["tpe", "random", "quasi_random", "gp"])
def test_a_resumed_study_does_not_propose_its_old_configurations_again(make_experiment, run, algorithm) -> None:
    experiment = make_experiment(algorithm={"type": algorithm, "seed": 0})
    before = proposals(experiment, run, 3)
    after = proposals(experiment, run, 3)
    assert not {each["train.learning_rate"] for each in before} & {each["train.learning_rate"] for each in after}


def test_two_experiments_on_one_storage_are_two_studies(make_experiment, run, tmp_path) -> None:
    storage = f"sqlite:///{tmp_path}/shared.db"
    one = make_experiment(storage=storage)
    two = one.model_copy(update={"name": "other"})
    open_study(one, one.search, run).ask()
    assert len(open_study(two, two.search, run).trials) == 0
    assert len(open_study(one, one.search, run).trials) == 1
    assert not run.study.exists()


def test_the_directions_are_the_goals(make_experiment, run) -> None:
    experiment = make_experiment()
    assert open_study(experiment, experiment.search, run).direction.name == "MINIMIZE"
    two = make_experiment(metrics=[{"name": "eval_loss"}, {"name": "tokens", "mode": "max"}])
    directions = open_study(two, two.search, type(run)(run.root / "two")).directions
    assert [each.name for each in directions] == ["MINIMIZE", "MAXIMIZE"]


@pytest.mark.parametrize("storage", ["nonsense", "nodialect://x/y", "sqlite:////nowhere/at/all/study.db"])
def test_a_storage_that_does_not_answer_is_an_input_error(make_experiment, run, storage) -> None:
    experiment = make_experiment(storage=storage)
    with pytest.raises(InputError, match=r"^search\.storage: .*; check the URL and that it answers"):
        open_study(experiment, experiment.search, run)


def test_trials_are_named_by_their_number() -> None:
    assert [trial_name(number) for number in (0, 7, 12345)] == ["0000", "0007", "12345"]
