"""The part of a search that trains: Ray Tune with the study's searcher, the scheduler and the budget."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any
from unittest import mock

from raytune_ft.errors import LanesLost
from raytune_ft.private_names import all_there, patches_wanted
from raytune_ft.search.scheduling.replay import replay
from raytune_ft.search.scheduling.schedulers import make_scheduler
from raytune_ft.search.session import Session
from raytune_ft.search.study.storage import storage_answers
from raytune_ft.search.study.study import trial_name
from raytune_ft.search.trials.ends import TrialEnds
from raytune_ft.search.trials.kept_checkpoints import KeptCheckpoints
from raytune_ft.search.trials.trials import Trials

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that fails at once has nothing to report
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the experiment says which trackers there are
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints a table at every verbosity; ours is the one
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # nobody restores from Tune's state
}
PROXY_MEMORY = 256 * 2**20  # bytes; a trial's own process takes no CPU from the workers that it waits for


def tune_study(session: Session, trials: Trials) -> LanesLost | None:
    """Trains until the study has its trials or its budget is used up; returns why no lane can be had, if that ended it.

    Args:
        session: The search; trials that an earlier driver began go on first.
        trials: How its trials train.
    """
    from ray import tune

    from raytune_ft.search.scheduling.pace import Pace
    from raytune_ft.search.study.searcher import StudySearcher
    from raytune_ft.search.trials.watch import Quiet, Watch

    experiment, search, run = session.experiment, session.search, session.run
    left, interrupted = session.left(), session.interrupted()[: session.left()]
    inside = make_scheduler(experiment, search)
    replay(inside, search, session.study.get_trials(deepcopy=False))
    scheduler = Pace(inside, search.max_concurrent)
    kept = KeptCheckpoints(experiment, run, session.ended())
    budget_callbacks = session.accounts.attend(scheduler, trials)
    ends = TrialEnds(session, trials, kept, {trial_name(trial.number) for trial in interrupted})
    searcher = StudySearcher(
        session.study,
        experiment,
        search,
        left,
        interrupted,
        ends.outcome_of,
        partial(_may_start, scheduler, trials),
        ends.curve_of,
        session.accounts.used_up,
    )
    os.environ.update(TUNE_ENVIRONMENT)
    tuner = tune.Tuner(
        tune.with_resources(trials.trainable, {"memory": PROXY_MEMORY}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=left + 1,  # the searcher says when it is over
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            **trials.tune,
        ),
        run_config=tune.RunConfig(
            name="tune",
            failure_config=tune.FailureConfig(max_failures=trials.max_failures),
            storage_path=str(run.root),
            verbose=0,
            stop=session.accounts.stop,
            callbacks=[
                *budget_callbacks,
                Watch(session.events, experiment.study_rungs()),
                Quiet(),
                *trials.callbacks,
            ],
        ),
    )
    with storage_answers(search.storage, run):
        return _fit(tuner, searcher)


def _fit(tuner: Any, searcher: Any) -> LanesLost | None:
    """Raises what kept the searcher from its work: Tune makes a trial's failure of it, and goes on."""
    lost = None
    try:
        with _counting_no_users():
            tuner.fit()
    except LanesLost as error:
        lost = error
    except Exception:
        if searcher.failure is None:
            raise
    if searcher.failure is not None:
        raise searcher.failure
    return lost


def _counting_no_users() -> AbstractContextManager[Any]:
    """Ray Tune imports W&B, to count who uses it."""
    if patches_wanted() and all_there("ray.air._internal.usage:tag_callbacks", without="Ray Tune imports W&B"):
        return mock.patch("ray.air._internal.usage.tag_callbacks")
    return nullcontext()


def _may_start(scheduler: Any, trials: Trials) -> bool:
    return bool(scheduler.may_start(trials.room()))


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial"])
