"""The Optuna study: who proposes, what was tried, and how each trial ended."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.resolve import redact
from raytune_ft.config.search import Search
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory
from raytune_ft.search.samplers import make_sampler
from raytune_ft.training.outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    import optuna

OUTCOME_ATTRIBUTE = "outcome"
REASON_ATTRIBUTE = "reason"


def open_study(experiment: Experiment, search: Search, run: RunDirectory) -> optuna.Study:
    """Creates or opens the study that bears the experiment's name."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            study = optuna.create_study(
                study_name=experiment.name,
                storage=search.storage or _sqlite(run.study),
                direction="minimize" if search.mode == "min" else "maximize",
                load_if_exists=True,
            )
            study.sampler = make_sampler(search, experiment, len(study.trials))
            return study
        except Exception as error:  # each driver has errors of its own
            where = "search.storage" if search.storage else str(run.study)
            what = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(where, redact(what), "check the URL and that it answers") from error


def _sqlite(path: Path) -> Any:
    from optuna.storages import RDBStorage

    path.parent.mkdir(parents=True, exist_ok=True)
    return RDBStorage(f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": 30}})


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
