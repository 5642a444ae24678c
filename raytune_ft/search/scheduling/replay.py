"""Replays to a new driver's scheduler what earlier drivers saw, so that it is in the state theirs would be in.

The study records every report that a scheduler was shown. So a report of a running trial that is not recorded was made
but never decided on: its driver died first. Such reports are decided on before anything starts, in the order of their
times, as that driver would have done; after that, all reports are recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.schedulers import Asha, Bohb, Hyperband, Median
from raytune_ft.config.search.search import Search
from raytune_ft.metrics.report import for_ray, value_in
from raytune_ft.paths import RunDirectory
from raytune_ft.search.sampling.attributes import STEP_ATTRIBUTE
from raytune_ft.search.scheduling.schedulers import make_scheduler
from raytune_ft.search.study.resume import interrupted_trials
from raytune_ft.search.study.study import learning_curve, record, tell, trial_name
from raytune_ft.search.trials.decide import decide_outcome, steps_of
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class PastTrial:
    """Stands for a trial in a scheduler, which reads no more of it than this."""

    trial_id: str
    config: dict[str, Any] = field(hash=False)

    @staticmethod
    def of(name: str, parameters: Mapping[str, Any]) -> PastTrial:
        """Makes the stand-in for the trial of that name."""
        return PastTrial(name, {"trial": name, "parameters": dict(parameters)})


def replay(scheduler: Any, search: Search, trials: Sequence[optuna.trial.FrozenTrial]) -> None:
    """Shows `scheduler` the recorded curves of all `trials`, so that it compares new reports with them.

    The order of `trials` does not matter, as values at a rung have none. Population-based schedulers are shown nothing:
    their population consists of the trials that are left.
    """
    if not isinstance(search.scheduler, Asha | Median | Hyperband | Bohb):
        return
    for trial in trials:
        if curve := _seen(trial):
            scheduler.remember(trial_name(trial.number), trial.params, curve)


def decide_unseen(
    experiment: Experiment,
    search: Search,
    run: RunDirectory,
    study: optuna.Study,
    heard: Callable[[str, Mapping[str, Any]], None] = lambda name, report: None,
) -> list[str]:
    """Decides the reports of interrupted trials that no scheduler was shown, and ends the trials that it stops there.

    Args:
        experiment: The experiment, with a `search` section.
        search: That section.
        run: The run directory.
        study: The search's study.
        heard: Is called with the trial's name and the report, for each report.

    Returns:
        The names of the trials that were stopped.
    """
    if not isinstance(search.scheduler, Asha | Median):
        return []
    running = {trial_name(trial.number): trial for trial in interrupted_trials(study)}
    frozen = {trial_name(trial.number): trial for trial in study.get_trials(deepcopy=False)}
    unseen = [(name, report) for name in running for report in _unseen(run, name, frozen[name], search)]
    if not unseen:
        return []
    scheduler = make_scheduler(experiment, search)
    replay(scheduler, search, list(frozen.values()))
    ended: list[str] = []
    for name, report in sorted(unseen, key=lambda each: (str(each[1].get("time", "")), each[0], each[1]["step"])):
        if name in ended:
            continue
        heard(name, report)
        decision = scheduler.on_trial_result(None, PastTrial.of(name, frozen[name].params), for_ray(report))
        trial, directory = running[name], run.trial(name)
        if decision == scheduler.STOP and Outcome.read(directory) is None:
            outcome = decide_outcome(None, report, search, steps_of(experiment, directory))
            outcome.write(directory)  # first: a recorded report without an outcome means that the trial was let go on
            record(study, trial, search, report)
            tell(study, trial, outcome)
            ended.append(name)
        else:
            record(study, trial, search, report)
    return ended


def _seen(trial: optuna.trial.FrozenTrial) -> dict[int, float]:
    """Returns the recorded curve, step -> value, but for what a stopped trial reported after it was stopped."""
    last = trial.user_attrs.get(STEP_ATTRIBUTE, math.inf) if trial.state.name == "PRUNED" else math.inf
    return {step: value for step, value in learning_curve(trial).items() if step <= last}


def _unseen(run: RunDirectory, name: str, trial: optuna.trial.FrozenTrial, search: Search) -> Iterator[dict[str, Any]]:
    """Yields the unrecorded reports that have a checkpoint and a value, as Tune never sees any others."""
    known, outcome = learning_curve(trial), Outcome.read(run.trial(name))
    last = outcome.step if outcome is not None and outcome.kind is OutcomeKind.pruned else math.inf
    for report in read_metrics(run.trial(name).metrics):
        value = value_in(report, search.goals[0].name)
        if report.get("checkpoint") and value is not None and report["step"] not in known and report["step"] <= last:
            yield report
