"""One configuration, trained without a search; what it leaves is a run of one trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.resolve import resolved_yaml
from raytune_ft.config.training import Isolated, Lane
from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.events.kinds import Closed, Ended, Listener, Reported, Started
from raytune_ft.events.log import EventLog
from raytune_ft.events.stream import EventStream
from raytune_ft.execution.cluster import check_resources, joining_s, ray_cluster
from raytune_ft.execution.devices import Decision, decide_number_type
from raytune_ft.execution.isolated import run_isolated
from raytune_ft.execution.lanes.lanes import IMPORTS
from raytune_ft.execution.lanes.on_lane import run_on_lane
from raytune_ft.execution.runner import choose_runner
from raytune_ft.objectives.prepared import prepare
from raytune_ft.ownership import check_own
from raytune_ft.paths import RunDirectory, write_text
from raytune_ft.search.heartbeat import Heartbeat
from raytune_ft.search.results.leaderboard import build_leaderboard, choose_winner
from raytune_ft.search.study.driver import only_driver
from raytune_ft.search.study.resume import check_same_experiment, in_recorded_type
from raytune_ft.search.study.study import trial_name
from raytune_ft.search.sweep import SweepResult
from raytune_ft.tracking import trackers
from raytune_ft.training.ended import drop_optimizers, keep_weights
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.spec import TrialSpec


def train_once(
    experiment: Experiment,
    listener: Listener,
    *,
    resume: bool = False,
    trust: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> SweepResult:
    """Trains the experiment as it stands, its `search` section left aside.

    Args:
        experiment: What to train.
        listener: Is told of each event.
        resume: Go on from the last checkpoint of a run that was stopped.
        trust: Use the run directory also where somebody else made it.
        log: Takes lines about the number type and the lane.

    Raises:
        InputError: Before anything starts.
        LanesLost: When no lane can be had; the trial waits for `resume`.
        RaytuneError: When the trial ended without an adapter.
    """
    experiment = experiment.model_copy(update={"search": None})
    run = experiment.run_directory
    check_own(run, trust=trust)
    with only_driver(run):
        return _train(experiment, run, listener, resume, log)


def _train(
    experiment: Experiment, run: RunDirectory, listener: Listener, resume: bool, log: Callable[[str], None]
) -> SweepResult:
    trial = run.trial(trial_name(0))
    begun = trial.root.exists()
    if begun and run.study.exists():
        raise InputError(str(run.root), "holds a sweep", "change `name`, or use raytune-ft sweep --resume")
    if begun and not resume:
        raise InputError(str(run.root), "already holds a trained trial", "add --resume to go on, or change `name`")
    if begun:
        experiment = in_recorded_type(experiment, run)
        check_same_experiment(experiment, run)
    runner = choose_runner(experiment).runner
    prepared = prepare(experiment, run.data, in_use=begun)
    if begun:  # else its number type is yet to be decided
        write_text(run.experiment, resolved_yaml(experiment))
    outcome = Outcome.read(trial)
    if outcome is not None and outcome.kind is OutcomeKind.failed:  # what made it fail may be mended
        trial.outcome.unlink()
        outcome = None
    if outcome is None:
        on_lane = isinstance(runner, Lane)
        with ray_cluster(state_api=not on_lane, forked=IMPORTS if on_lane else None) as own:
            check_resources(experiment, joining_s())
            decision = decide_number_type(experiment, log, isolated=not on_lane)
            experiment = decision.experiment
            write_text(run.experiment, resolved_yaml(experiment))
            spec = TrialSpec.of(trial_name(0), {}, experiment, run)
            stream = EventStream([EventLog(run), *trackers(experiment, run.root), listener])
            with Heartbeat(stream, run, reports=not on_lane) as beat:
                beat(Started(spec.trial_id, {}))
                try:
                    outcome = _run(spec, runner, run, beat, own, decision, log)
                except Exception as error:
                    stream(Closed(str(error)))
                    raise
                beat(Ended(spec.trial_id, outcome))
                stream(Closed("the trial has ended"))
    if outcome.kind is not OutcomeKind.completed:
        if outcome.kind is OutcomeKind.diverged:  # else it may be gone on with
            drop_optimizers(trial)
        raise RaytuneError(f"{trial.root}: {outcome.kind}: {outcome.reason}")
    board = build_leaderboard(experiment, run)
    winner = choose_winner(experiment, run, board, prepared.fingerprint)
    keep_weights(trial, (winner.checkpoint or "").rpartition("/")[2])
    return SweepResult(run, board, winner)


def _run(
    spec: TrialSpec,
    runner: Lane | Isolated,
    run: RunDirectory,
    events: Listener,
    own: bool,
    decision: Decision,
    log: Callable[[str], None],
) -> Outcome:
    if isinstance(runner, Isolated):
        return run_isolated(spec, [])

    def reported(report: dict[str, Any]) -> None:
        events(Reported(spec.trial_id, report))

    return run_on_lane(spec, runner, run, reported, own=own, nodes=decision.nodes, log=log)
