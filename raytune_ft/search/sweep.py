"""The search: Ray Tune asks the study for configurations, the scheduler stops the weak, the board is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.resolve import resolved_yaml
from raytune_ft.config.search import Search
from raytune_ft.config.training import Isolated, Lane
from raytune_ft.data.prepare import prepare
from raytune_ft.errors import InputError
from raytune_ft.execution.cluster import ray_cluster
from raytune_ft.execution.early import Early
from raytune_ft.execution.runner import choose_runner
from raytune_ft.paths import RunDirectory, write_text
from raytune_ft.search.leaderboard import Row, build_leaderboard, choose_winner
from raytune_ft.search.progress import Progress
from raytune_ft.search.resume import check_same_experiment, interrupted_trials, only_driver
from raytune_ft.search.schedulers import make_scheduler, replay
from raytune_ft.search.study import open_study, tell, trial_name
from raytune_ft.search.trials import Trials, trials_on
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
    board: list[Row]
    winner: Row


class Interrupted(KeyboardInterrupt):
    """The user stopped the sweep; what is done is kept."""


def run_sweep(experiment: Experiment, progress: Progress, *, resume: bool = False) -> SweepResult:
    """Searches until the study has its trials.

    Args:
        experiment: With a `search` section.
        progress: Told of each start, report and end.
        resume: Go on with the run directory's study instead of refusing it.

    Raises:
        InputError: Before anything starts.
        RaytuneError: When no trial ended with an adapter.
        Interrupted: After Ctrl-C.
    """
    search = experiment.search
    if search is None:
        raise InputError("search", "missing", "add a search section, or use raytune-ft train")
    run = RunDirectory(Path(experiment.output_dir).resolve() / experiment.name)
    with only_driver(run):
        return _sweep(experiment, search, run, progress, resume)


def _sweep(experiment: Experiment, search: Search, run: RunDirectory, progress: Progress, resume: bool) -> SweepResult:
    begun = run.trials.is_dir()  # before the first trial, settings may still change
    if begun and not resume:
        raise InputError(str(run.root), "already holds trials", "add --resume to go on with them, or change `name`")
    if begun:
        check_same_experiment(experiment, run)
    runner = choose_runner(experiment).runner
    with Early(_cluster(runner, experiment, run)) as starting:
        if not begun:  # else the data is prepared, and all trials may be done
            starting.begin()
        prepared = prepare(experiment, run.data, in_use=begun)
        write_text(run.experiment, resolved_yaml(experiment))
        study = open_study(experiment, search, run)
        if search.storage and study.trials and not resume:
            where = f"search.storage: study {experiment.name}"
            raise InputError(where, f"already holds {len(study.trials)} trials", "add --resume, or change `name`")
        finished = [trial_name(trial.number) for trial in study.trials if trial.state.is_finished()]
        left = search.trials - len(finished)
        interrupted = interrupted_trials(study)
        for surplus in interrupted[max(left, 0) :]:  # fewer trials are wanted than before
            tell(study, surplus, Outcome(OutcomeKind.failed, "interrupted, and not wanted any more"))
        if left > 0:
            trials = starting.get()
            for start in search.space.start_from:
                study.enqueue_trial(start, skip_if_exists=True)  # a driver killed meanwhile left the others out
            _tune(experiment, search, run, study, left, finished, interrupted[:left], trials, progress)
    board = build_leaderboard(experiment, run)
    if len([trial for trial in study.trials if trial.state.is_finished()]) < search.trials:
        raise Interrupted
    winner = choose_winner(experiment, run, board, prepared.fingerprint)
    return SweepResult(run, board, winner)


@contextmanager
def _cluster(runner: Lane | Isolated, experiment: Experiment, run: RunDirectory) -> Iterator[Trials]:
    """Ray, and what trains there."""
    with ray_cluster(state_api=isinstance(runner, Isolated)), trials_on(runner, experiment, run) as trials:
        yield trials


def _tune(
    experiment: Experiment,
    search: Search,
    run: RunDirectory,
    study: Any,
    left: int,
    finished: list[str],
    interrupted: list[Any],
    trials: Trials,
    progress: Progress,
) -> None:
    from ray import tune

    from raytune_ft.search.searcher import StudySearcher
    from raytune_ft.search.watch import Watch
    from raytune_ft.tracking import tune_callbacks

    def outcome_of(name: str, result: dict[str, Any] | None) -> Outcome:
        outcome = Outcome.read(run.trial(name)) or _stopped(experiment, search, result or {})
        outcome.write(run.trial(name))
        trials.ended(name)
        progress.ended(name, str(outcome.kind), outcome.reason, outcome.value)
        return outcome

    scheduler = make_scheduler(experiment, search)
    replay(scheduler, search, run, finished)
    searcher = StudySearcher(study, experiment, search, left, interrupted, outcome_of, trials.room)
    os.environ.update(TUNE_ENVIRONMENT)
    tune.Tuner(
        tune.with_resources(trials.trainable, {"memory": PROXY_MEMORY}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=left,
            max_concurrent_trials=search.max_concurrent,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            **trials.tune,
        ),
        run_config=tune.RunConfig(
            name="tune",
            failure_config=tune.FailureConfig(max_failures=trials.max_failures),
            storage_path=str(run.root),
            verbose=0,
            callbacks=[Watch(progress, experiment.rungs()), *tune_callbacks(experiment, run.root), *trials.callbacks],
        ),
    ).fit()


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial"])


def _stopped(experiment: Experiment, search: Search, result: dict[str, Any]) -> Outcome:
    """How a trial ended that left no outcome: the scheduler stopped it, or its proxy died (which has no result)."""
    step, value = int(result.get("step", 0)), result.get(search.metric)
    seconds = float(result.get("seconds", 0.0))
    if value is None:
        return Outcome(OutcomeKind.failed, "the trial's process failed; see Ray's logs", step, None, seconds)
    if step >= experiment.train.max_steps:
        return Outcome(OutcomeKind.completed, f"ran all {step} steps", step, value, seconds)
    return Outcome(OutcomeKind.pruned, f"stopped by {search.scheduler.type} at step {step}", step, value, seconds)
