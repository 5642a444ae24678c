"""The search: Ray Tune asks the study for configurations, the scheduler stops the weak, the board is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.resolve import resolved_yaml
from raytune_ft.config.search.search import Search
from raytune_ft.data.prepare import prepare
from raytune_ft.errors import InputError, LanesLost
from raytune_ft.execution.local_ray.background_start import BackgroundStart
from raytune_ft.execution.runner import choose_runner
from raytune_ft.ownership import check_own
from raytune_ft.paths import RunDirectory, write_text
from raytune_ft.private_names import all_there, patches_wanted
from raytune_ft.search.budget.accounts import Accounts
from raytune_ft.search.earlier_studies.portfolio import enqueue_first
from raytune_ft.search.earlier_studies.warm_start import check_warm_start, enqueue_best, sources, warm_start
from raytune_ft.search.heartbeat import Heartbeat
from raytune_ft.search.on_cluster import on_cluster
from raytune_ft.search.progress import Progress
from raytune_ft.search.results.leaderboard import build_leaderboard, choose_winner
from raytune_ft.search.results.rows import LeaderboardRow
from raytune_ft.search.scheduling.replay import decide_unseen, replay
from raytune_ft.search.scheduling.schedulers import make_scheduler
from raytune_ft.search.study.driver import only_driver
from raytune_ft.search.study.resume import check_same_experiment, in_recorded_type, interrupted_trials
from raytune_ft.search.study.storage import open_storage, storage_answers
from raytune_ft.search.study.study import open_study, tell, trial_name
from raytune_ft.search.trials.kept_checkpoints import KeptCheckpoints
from raytune_ft.search.trials.stopped import steps_of, stopped
from raytune_ft.search.trials.trials import Trials
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that fails at once has nothing to report
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the experiment says which trackers there are
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints a table at every verbosity; ours is the one
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # nobody restores from Tune's state
}
PROXY_MEMORY = 256 * 2**20  # bytes; a trial's own process takes no CPU from the workers that it waits for


@dataclass(frozen=True)
class SweepResult:
    """What a finished sweep leaves.

    Attributes:
        run: The run directory.
        board: Every trial, best first.
        winner: The first of the board.
    """

    run: RunDirectory
    board: list[LeaderboardRow]
    winner: LeaderboardRow


class Interrupted(KeyboardInterrupt):
    """The user stopped the sweep; what is done is kept."""


def run_sweep(
    experiment: Experiment,
    progress: Progress,
    *,
    resume: bool = False,
    trust: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> SweepResult:
    """Searches until the study has its trials, or its budget is used up.

    Args:
        experiment: With a `search` section.
        progress: Told of each start, report and end.
        resume: Go on with the run directory's study instead of refusing it.
        trust: Use the run directory, and those of `warm_start`, also where somebody else made them.
        log: Takes a line about how it ended.

    Raises:
        InputError: Before anything starts.
        LanesLost: When no lane can be had; trials that have not ended wait for `resume`.
        RaytuneError: When no trial ended with an adapter.
        Interrupted: After Ctrl-C.
    """
    search = experiment.search
    if search is None:
        raise InputError("search", "missing", "add a search section, or use raytune-ft train")
    run = experiment.run_directory
    for read in (run, *(RunDirectory(Path(earlier)) for earlier in search.warm_start)):
        check_own(read, trust=trust)
    with only_driver(run):
        return _sweep(experiment, search, run, progress, resume, log)


def _sweep(
    experiment: Experiment,
    search: Search,
    run: RunDirectory,
    progress: Progress,
    resume: bool,
    log: Callable[[str], None],
) -> SweepResult:
    begun = run.trials.is_dir()  # before the first trial, settings may still change
    if begun and not resume:
        raise InputError(str(run.root), "already holds trials", "add --resume to go on with them, or change `name`")
    if begun:
        experiment = in_recorded_type(experiment, run)
        check_same_experiment(experiment, run)
    check_warm_start(experiment)
    if search.storage:
        open_storage(search.storage, run)  # one that does not answer is found before anything starts
    runner = choose_runner(experiment).runner
    accounts = Accounts(experiment, search, run)
    lost: LanesLost | None = None
    with BackgroundStart(on_cluster(runner, experiment, run, accounts, log)) as starting:
        if not begun:  # else the data is prepared, and all trials may be done
            starting.begin()
        prepared = prepare(experiment, run.data, in_use=begun)
        if begun:  # else its number type is yet to be decided
            write_text(run.experiment, resolved_yaml(experiment))
        taken = warm_start(experiment, search, run)
        study = open_study(experiment, search, run, sources(taken, experiment, search))
        if search.storage and study.trials and not resume:
            where = f"search.storage: study {experiment.name}"
            raise InputError(where, f"already holds {len(study.trials)} trials", "add --resume, or change `name`")
        for name in decide_unseen(experiment, search, run, study, accounts.heard):
            log(f"trial {name} was behind at its last report, which the driver before did not live to see: stopped")
        finished = [trial_name(trial.number) for trial in study.trials if trial.state.is_finished()]
        left = search.trials - len(finished)
        interrupted = interrupted_trials(study)
        for surplus in interrupted[max(left, 0) :]:  # fewer trials are wanted than before
            directory, unwanted = run.trial(trial_name(surplus.number)), "interrupted, and not wanted any more"
            outcome = Outcome.read(directory) or Outcome(OutcomeKind.failed, unwanted)
            outcome.write(directory)
            tell(study, surplus, outcome)
        if left > 0:
            accounts.check_open(len(finished))
        if left > 0 and not accounts.used_up():
            cluster = starting.get()
            experiment = cluster.decision.experiment
            write_text(run.experiment, resolved_yaml(experiment))
            accounts.plan(cluster.decision, cluster.trials.groups)
            enqueue_first(study, experiment)
            enqueue_best(study, taken)
            for each in taken:
                log(str(each))
            with Heartbeat(progress, run, cluster.trials.notices, log) as beat:
                lost = _tune(
                    experiment, search, run, study, left, finished, interrupted[:left], cluster.trials, accounts, beat
                )
    accounts.write()
    if accounts.used_up():
        _end_interrupted(experiment, search, run, study, accounts)
    ended = len([trial for trial in study.trials if trial.state.is_finished()])
    if ended < search.trials and accounts.reason:
        log(accounts.close(ended))
    board = build_leaderboard(experiment, run)
    if ended < search.trials and not accounts.reason:
        raise lost.after(ended, search.trials) if lost else Interrupted
    winner = choose_winner(experiment, run, board, prepared.fingerprint)
    KeptCheckpoints(experiment, run, ()).study_ended(board)
    return SweepResult(run, board, winner)


def _end_interrupted(experiment: Experiment, search: Search, run: RunDirectory, study: Any, accounts: Accounts) -> None:
    """Ends trials whose driver was killed, or stopped, between the budget's end and theirs."""
    for trial in interrupted_trials(study):
        directory = run.trial(trial_name(trial.number))
        last = (read_metrics(directory.metrics) or [{}])[-1]
        outcome = Outcome.read(directory) or accounts.budget_outcome(directory.root.name, last)
        outcome = outcome or stopped(search, steps_of(experiment, directory), last)
        outcome.write(directory)
        tell(study, trial, outcome)


def _tune(
    experiment: Experiment,
    search: Search,
    run: RunDirectory,
    study: Any,
    left: int,
    finished: list[str],
    interrupted: list[Any],
    trials: Trials,
    accounts: Accounts,
    progress: Progress,
) -> LanesLost | None:
    from ray import tune

    from raytune_ft.search.scheduling.pace import Pace
    from raytune_ft.search.study.searcher import StudySearcher
    from raytune_ft.search.trials.watch import Quiet, Watch
    from raytune_ft.tracking import tune_callbacks

    def outcome_of(name: str, result: dict[str, Any] | None) -> Outcome:
        outcome = Outcome.read(run.trial(name))
        if outcome is None:
            steps = steps_of(experiment, run.trial(name))
            outcome = accounts.budget_outcome(name, result or {}) or stopped(search, steps, result or {})
        outcome.write(run.trial(name))
        trials.ended(name)
        kept.ended(name)
        progress.ended(name, str(outcome.kind), outcome.reason, outcome.value)
        return outcome

    inside = make_scheduler(experiment, search)
    replay(inside, search, study.get_trials(deepcopy=False))
    scheduler = Pace(inside, search.max_concurrent)
    kept = KeptCheckpoints(experiment, run, finished)
    budget_callbacks = accounts.attend(scheduler, trials)
    resumed = {trial_name(trial.number) for trial in interrupted}

    def curve_of(name: str) -> list[dict[str, Any]]:
        reports = read_metrics(run.trial(name).metrics) if name in resumed else []
        return [report for report in reports if report.get("checkpoint")]

    may_start = partial(_may_start, scheduler, trials)
    searcher = StudySearcher(
        study, experiment, search, left, interrupted, outcome_of, may_start, curve_of, accounts.used_up
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
            stop=accounts.stop,
            callbacks=[
                *budget_callbacks,
                Watch(progress, experiment.study_rungs()),
                Quiet(),
                *tune_callbacks(experiment, run.root),
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
