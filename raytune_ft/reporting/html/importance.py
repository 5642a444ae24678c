"""Computes which searched parameters mattered, by Optuna's PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from raytune_ft.config.files.yaml import read_yaml
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory
from raytune_ft.search.study.storage import journal_path, open_storage
from raytune_ft.search.study.study import learning_curve

FEWEST_TRIALS = 4
"""The fewest trials to compute importances from; with fewer they are noise."""


@dataclass(frozen=True)
class Importances:
    """How much each parameter explains of the metric at one step.

    Attributes:
        shares: Key path -> share from 0 to 1, the greatest first; empty where they are unknown.
        trials: How many trials were compared.
        step: The step at which they were compared.
        absent: Why there are no shares, in words.
    """

    shares: Mapping[str, float]
    trials: int
    step: int | None = None
    absent: str = ""


def parameter_importances(run: RunDirectory, study_name: str) -> Importances:
    """Computes the importances from the run's study; `absent` says why, where that is not possible.

    Trials are compared at the step that most of them reported, stopped ones included: of those that a scheduler lets
    run to the end, most are much alike.
    """
    where = _storage(run)
    file = journal_path(where) if where else run.study
    if file is not None and not file.is_file():
        return Importances({}, 0, absent=f"This run keeps no {file.name}, so importances are not known here.")
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kept_in = file.name if file else "search.storage"
    try:
        study = optuna.load_study(study_name=study_name, storage=open_storage(where, run))
    except KeyError:
        absent = f"{kept_in} holds no study named {study_name}, so importances are not known here."
        return Importances({}, 0, absent=absent)
    except InputError as error:  # a report is written even if the database does not answer
        return Importances({}, 0, absent=f"Importances are not known here: {error}")
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    curves = {trial.number: learning_curve(trial) for trial in trials}
    reports = Counter(step for curve in curves.values() for step in curve)
    if not reports:
        return Importances({}, 0, absent="No trial reported a value.")
    step = max(reports, key=lambda step: (reports[step], step))
    trials = [trial for trial in trials if step in curves[trial.number]]
    if len(trials) < FEWEST_TRIALS:
        few = f"{len(trials)} trial{'' if len(trials) == 1 else 's'} reported at one step"
        return Importances({}, len(trials), absent=f"Only {few}; importances need at least {FEWEST_TRIALS}.")
    values = [curves[trial.number][step] for trial in trials]
    if len(set(values)) == 1:
        return Importances({}, len(trials), absent="All trials reached the same value, so no parameter stands out.")
    there = optuna.create_study(direction=study.directions[0])
    for trial, value in zip(trials, values, strict=True):
        there.add_trial(optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=value))
    return Importances(optuna.importance.get_param_importances(there), len(trials), step)


def _storage(run: RunDirectory) -> str | None:
    """Returns `search.storage` of the run's experiment."""
    values = read_yaml(run.experiment).value if run.experiment.is_file() else {}
    return (values.get("search") or {}).get("storage")
