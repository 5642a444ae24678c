"""The Optuna study: who proposes, what was tried, and how each trial ended."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search import Search
from raytune_ft.paths import RunDirectory
from raytune_ft.search.claim import claim
from raytune_ft.search.samplers import make_sampler
from raytune_ft.search.storage import open_storage, storage_opens
from raytune_ft.training.outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    import optuna

OUTCOME_ATTRIBUTE = "outcome"
REASON_ATTRIBUTE = "reason"


def open_study(experiment: Experiment, search: Search, run: RunDirectory) -> optuna.Study:
    """Creates or opens the study that bears the experiment's name.

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
                direction="minimize" if search.mode == "min" else "maximize",
            )
            created = True
        except optuna.exceptions.DuplicatedStudyError:
            study, created = optuna.load_study(study_name=experiment.name, storage=storage), False
        if search.storage:
            claim(study, run, created=created)
        known = len(study.get_trials(deepcopy=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = make_sampler(search, experiment, known)
    return study


def tell(study: optuna.Study, trial: optuna.Trial, outcome: Outcome) -> None:
    """Tells the truth about a trial: COMPLETE only when it ran to its end, PRUNED with its curve, else FAIL."""
    from optuna.trial import TrialState

    trial.set_user_attr(OUTCOME_ATTRIBUTE, str(outcome.kind))
    trial.set_user_attr(REASON_ATTRIBUTE, outcome.reason)
    if outcome.kind is OutcomeKind.completed and outcome.value is not None:
        study.tell(trial, values=outcome.value, state=TrialState.COMPLETE)
    elif outcome.kind is OutcomeKind.pruned:
        study.tell(trial, state=TrialState.PRUNED)  # Optuna takes the last intermediate value as the trial's
    else:
        study.tell(trial, state=TrialState.FAIL)


def trial_name(number: int) -> str:
    """Optuna's trial number as the name of the trial's directory."""
    return f"{number:04d}"
