"""Checks whether a run can be resumed, and finds the trials that were interrupted in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.overrides import flat
from raytune_ft.config.files.resolve import resolved_values
from raytune_ft.config.recorded import in_todays_words
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory

if TYPE_CHECKING:
    import optuna

MAY_CHANGE = {"search.trials", "search.max_concurrent", "search.keep_checkpoints", "resources.outage_timeout_s"}
MAY_CHANGE_BELOW = ("search.budget.", "promotion.")


def in_recorded_type(experiment: Experiment, run: RunDirectory) -> Experiment:
    """Returns the experiment in the run's number type, if its `train.dtype` is `auto`: the same on any machine."""
    if experiment.train.dtype != "auto" or not run.experiment.exists():
        return experiment
    recorded = (yaml.safe_load(run.experiment.read_text(encoding="utf-8")).get("train") or {}).get("dtype", "auto")
    return experiment if recorded == "auto" else experiment.computing_in(recorded)


def check_same_experiment(experiment: Experiment, run: RunDirectory) -> None:
    """Raises InputError, with the differences, when `run` belongs to another configuration."""
    if not run.experiment.exists():
        return
    before = flat(in_todays_words(yaml.safe_load(run.experiment.read_text(encoding="utf-8"))))
    now = flat(resolved_values(experiment))
    changed = [
        f"{key}: {before.get(key)!r} -> {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _may_change(key)
    ]
    if changed:
        shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise InputError(str(run.root), f"was started with other settings ({shown})", "undo them, or change `name`")


def _may_change(key: str) -> bool:
    return key in MAY_CHANGE or key.startswith(MAY_CHANGE_BELOW)


def interrupted_trials(study: optuna.Study) -> list[optuna.Trial]:
    """Returns the trials that a killed driver left RUNNING, to be handed out again under their own numbers."""
    import optuna

    running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    return [optuna.trial.Trial(study, trial._trial_id) for trial in running]
