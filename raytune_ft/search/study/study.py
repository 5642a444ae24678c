"""Opens the Optuna study, and records in it the reports of trials and how each ended."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.search import Search
from raytune_ft.paths import RunDirectory
from raytune_ft.search.results.goals import values_in
from raytune_ft.search.sampling.attributes import (
    CURVE_ATTRIBUTE,
    MEMORY_CONSTRAINT,
    OUTCOME_ATTRIBUTE,
    REASON_ATTRIBUTE,
    STEP_ATTRIBUTE,
    VALUES_ATTRIBUTE,
)
from raytune_ft.search.sampling.samplers import make_sampler
from raytune_ft.search.study.claim import claim
from raytune_ft.search.study.storage import open_storage, storage_opens
from raytune_ft.training.outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    import optuna

    from raytune_ft.search.sampling.sampler_history import ShownStudy


def open_study(
    experiment: Experiment, search: Search, run: RunDirectory, earlier: Sequence[ShownStudy] = ()
) -> optuna.Study:
    """Creates or opens the study of the experiment's name; its sampler is also shown the `earlier` trials.

    Raises:
        InputError: The storage does not answer, or another run has a study of that name there.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(search.storage, run)
    with storage_opens(search.storage, run):
        try:
            study = optuna.create_study(
                study_name=experiment.name,
                storage=storage,
                directions=["minimize" if goal.mode == "min" else "maximize" for goal in search.goals],
            )
            created = True
        except optuna.exceptions.DuplicatedStudyError:
            study, created = optuna.load_study(study_name=experiment.name, storage=storage), False
        if search.storage:
            claim(study, run, created=created)
        known = len(study.get_trials(deepcopy=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = make_sampler(search, experiment, known, earlier)
    return study


def record(study: optuna.Study, trial: optuna.Trial, search: Search, report: Mapping[str, Any]) -> None:
    """Adds a report that the study does not have yet to the trial's curve, at its step; ignores one without value."""
    values = values_in(report, search.goals)
    step, value = int(report["step"]), values.get(search.goals[0].name)
    if value is None:
        return
    if len(study.directions) == 1:
        trial.report(value, step)
        return
    curve = trial.user_attrs.get(CURVE_ATTRIBUTE, [])
    if step > max((known for known, _ in curve), default=-1):
        trial.set_user_attr(VALUES_ATTRIBUTE, values)
    trial.set_user_attr(CURVE_ATTRIBUTE, sorted([*curve, [step, value]]))  # last: the curve says what is recorded


def learning_curve(trial: optuna.trial.FrozenTrial) -> dict[int, float]:
    """Returns the trial's curve, step -> value of the first goal, as `record` left it."""
    return trial.intermediate_values or {step: value for step, value in trial.user_attrs.get(CURVE_ATTRIBUTE, [])}


def tell(study: optuna.Study, trial: optuna.Trial, outcome: Outcome, best: float | None = None) -> None:
    """Tells the study how a trial ended: COMPLETE only if it ran to its end, PRUNED with its curve, else FAIL.

    Args:
        study: The study, of one or several goals.
        trial: The trial that ended.
        outcome: How it ended.
        best: The best value that it reported, by which the leaderboard ranks it; None for its last value.
    """
    from optuna.trial import TrialState

    trial.set_user_attr(OUTCOME_ATTRIBUTE, str(outcome.kind))
    trial.set_user_attr(REASON_ATTRIBUTE, outcome.reason)
    trial.set_user_attr(STEP_ATTRIBUTE, outcome.step)
    if outcome.kind is OutcomeKind.out_of_memory:
        trial.set_constraint(MEMORY_CONSTRAINT, 1.0)  # above zero means infeasible
    several = len(study.directions) > 1
    value = outcome.value if best is None else best
    values: list[float] = list(trial.user_attrs.get(VALUES_ATTRIBUTE, {}).values()) if several else [value or 0.0]
    if outcome.kind is OutcomeKind.completed and value is not None and len(values) == len(study.directions):
        study.tell(trial, values=values, state=TrialState.COMPLETE)
    elif outcome.kind is OutcomeKind.pruned:
        # With one goal Optuna takes the last intermediate value as the trial's; with several it takes none.
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, state=TrialState.FAIL)


def trial_name(number: int) -> str:
    """Returns the name of the trial's directory for Optuna's trial number, such as `0003`."""
    return f"{number:04d}"
