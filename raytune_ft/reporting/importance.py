"""Which searched parameter mattered, by Optuna's PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raytune_ft.paths import RunDirectory

FEWEST_TRIALS = 4
"""With fewer completed trials the shares are noise."""


@dataclass(frozen=True)
class Importances:
    """Share of each parameter, the greatest first, or in words why there is none."""

    shares: Mapping[str, float]
    trials: int
    absent: str = ""


def parameter_importances(run: RunDirectory, study_name: str) -> Importances:
    """Reads the run's study; says in `absent` why importances can't be had."""
    if not run.study.is_file():
        return Importances({}, 0, "This run keeps no study.db, so importances are not known here.")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.load_study(study_name=study_name, storage=study_url(run))
    except KeyError:
        return Importances({}, 0, f"study.db holds no study named {study_name}, so importances are not known here.")
    trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(trials) < FEWEST_TRIALS:
        few = f"{len(trials)} trial{'' if len(trials) == 1 else 's'} ran to the end"
        return Importances({}, len(trials), f"Only {few}; importances need at least {FEWEST_TRIALS}.")
    if len({trial.value for trial in trials}) == 1:
        return Importances({}, len(trials), "All completed trials reached the same value, so no parameter stands out.")
    return Importances(optuna.importance.get_param_importances(study), len(trials))


def study_url(run: RunDirectory) -> str:
    """SQLAlchemy URL of the run's study."""
    return f"sqlite:///{run.study.resolve()}"
