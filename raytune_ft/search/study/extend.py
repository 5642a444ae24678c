"""Decides how many trials a continued study will have: `sweep --resume` and `sweep --extend`."""

from __future__ import annotations

from typing import Any

import yaml

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.fits import check_algorithm
from raytune_ft.config.search.search import Search
from raytune_ft.errors import InputError
from raytune_ft.ownership import check_own
from raytune_ft.paths import RunDirectory, read_json, write_json
from raytune_ft.search.study.driver import only_driver
from raytune_ft.search.study.resume import check_same_experiment, in_recorded_type
from raytune_ft.search.study.storage import open_storage, storage_opens


def go_on(experiment: Experiment, more: int = 0, *, trust: bool = False) -> Experiment:
    """Returns the experiment with the number of trials that its study will have, `more` than it holds now.

    An extension is recorded in the run, so that a later `--resume` with the same file still asks for all of its trials;
    if the file then asks for another number, that number counts.

    Args:
        experiment: The experiment, with a `search` section.
        more: Number of trials to add; the sum is never below the number that was asked for before.
        trust: Whether to continue in a directory that another user made, too.

    Raises:
        InputError: There is nothing to extend, other settings have changed, or the grid has no more configurations.
    """
    search = experiment.search
    if search is None:
        raise InputError("search", "missing", "add a search section, or use raytune-ft train")
    run = experiment.run_directory
    check_own(run, trust=trust)
    if not more:
        noted: dict[str, Any] = read_json(run.extended) if run.extended.is_file() else {}
        return _asking(experiment, search, noted["trials"]) if noted.get("asked") == search.trials else experiment
    if not run.trials.is_dir():
        raise InputError(str(run.root), "holds no trials to extend", "start it with raytune-ft sweep, without --extend")
    with only_driver(run):
        check_same_experiment(in_recorded_type(experiment, run), run)
        before = yaml.safe_load(run.experiment.read_text(encoding="utf-8"))["search"]["trials"]
        extended = _asking(experiment, search, max(before, _held(experiment, search, run) + more))
        assert extended.search is not None
        try:
            check_algorithm(extended, extended.search, lambda path: "--extend")
        except InputError as error:
            remedy = "give a number that it has left, or start another study"
            raise InputError("--extend", error.what, remedy) from None
        write_json(run.extended, {"schema": 1, "asked": search.trials, "trials": extended.search.trials})
    return extended


def _asking(experiment: Experiment, search: Search, trials: int) -> Experiment:
    return experiment.model_copy(update={"search": search.model_copy(update={"trials": trials})})


def _held(experiment: Experiment, search: Search, run: RunDirectory) -> int:
    """Returns how many trials of the study were handed out."""
    import optuna
    from optuna.trial import TrialState

    storage = open_storage(search.storage, run)
    with storage_opens(search.storage, run):
        study = optuna.load_study(study_name=experiment.name, storage=storage)
        trials = study.get_trials(deepcopy=False)
    return sum(trial.state is not TrialState.WAITING for trial in trials)
