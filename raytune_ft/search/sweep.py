"""The search: Ray Tune asks the study for configurations, the scheduler stops the weak, the board is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.resolve import resolved_yaml
from raytune_ft.config.search.search import Search
from raytune_ft.errors import InputError, LanesLost
from raytune_ft.events.kinds import Closed, Listener
from raytune_ft.events.log import EventLog
from raytune_ft.events.stream import EventStream
from raytune_ft.execution.local_ray.background_start import BackgroundStart
from raytune_ft.execution.runner import choose_runner
from raytune_ft.objectives.prepared import prepare
from raytune_ft.ownership import check_own
from raytune_ft.paths import RunDirectory, write_text
from raytune_ft.search.budget.accounts import Accounts
from raytune_ft.search.earlier_studies.portfolio import enqueue_first
from raytune_ft.search.earlier_studies.warm_start import check_warm_start, enqueue_best, sources, warm_start
from raytune_ft.search.heartbeat import Heartbeat
from raytune_ft.search.on_cluster import on_cluster
from raytune_ft.search.results.leaderboard import build_leaderboard, choose_winner
from raytune_ft.search.results.rows import LeaderboardRow
from raytune_ft.search.session import Session
from raytune_ft.search.study.driver import only_driver
from raytune_ft.search.study.resume import check_same_experiment, in_recorded_type
from raytune_ft.search.study.storage import open_storage
from raytune_ft.search.study.study import open_study
from raytune_ft.search.trials.kept_checkpoints import KeptCheckpoints
from raytune_ft.search.trials.leftovers import end_interrupted, end_what_earlier_drivers_left
from raytune_ft.search.trials.trials import Trials
from raytune_ft.search.tuning import tune_study
from raytune_ft.tracking import trackers


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
    listener: Listener,
    *,
    resume: bool = False,
    trust: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> SweepResult:
    """Searches until the study has its trials, or its budget is used up.

    Args:
        experiment: With a `search` section.
        listener: Is told of each event.
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
        return _sweep(experiment, search, run, listener, resume, log)


def _sweep(
    experiment: Experiment,
    search: Search,
    run: RunDirectory,
    listener: Listener,
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
        events = EventStream([EventLog(run), accounts.heard, *trackers(experiment, run.root), listener])
        session = Session(experiment, search, run, study, accounts, events, log)
        end_what_earlier_drivers_left(session)
        if session.left() > 0:
            accounts.check_open(len(session.ended()))
        if session.left() > 0 and not accounts.used_up():
            cluster = starting.get()
            session = replace(session, experiment=cluster.decision.experiment)
            write_text(run.experiment, resolved_yaml(session.experiment))
            accounts.plan(cluster.decision, cluster.trials.groups)
            enqueue_first(study, session.experiment)
            enqueue_best(study, taken)
            for each in taken:
                log(str(each))
            lost = train_trials(session, cluster.trials)
    accounts.write()
    if accounts.used_up():
        end_interrupted(session)
    ended = len(session.ended())
    if ended < search.trials and accounts.reason:
        log(accounts.close(ended))
    board = build_leaderboard(session.experiment, run)
    if ended < search.trials and not accounts.reason:
        raise lost.after(ended, search.trials) if lost else Interrupted
    winner = choose_winner(session.experiment, run, board, prepared.fingerprint)
    KeptCheckpoints(session.experiment, run, ()).study_ended(board)
    return SweepResult(run, board, winner)


def train_trials(session: Session, trials: Trials) -> LanesLost | None:
    """Trains what is left of the study; returns why no lane can be had, if that ended it. Tells of the close."""
    stream = session.events
    with Heartbeat(stream, session.run, trials.notices, session.log) as beat:
        try:
            lost = tune_study(replace(session, events=beat), trials)
        except Exception as error:
            stream(Closed(str(error)))
            raise
        stream(Closed(_why_closed(session, lost)))
    return lost


def _why_closed(session: Session, lost: LanesLost | None) -> str:
    if session.left() <= 0:
        return "all trials have ended"
    return session.accounts.reason or (str(lost) if lost else "the driver was stopped")
