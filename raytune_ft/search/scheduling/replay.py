"""What earlier drivers saw, shown to a new driver's scheduler, so that it is where theirs would be by now.

The study has on record every report that a scheduler was shown, so a report of a running trial that is not on record
was made and never decided: its driver died first. Such reports are decided before anything starts, in the order of
their times, as that driver would have; then all that there is to know is on record.
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
    """What a scheduler looks at in a trial."""

    trial_id: str
    config: dict[str, Any] = field(hash=False)

    @staticmethod
    def of(name: str, parameters: Mapping[str, Any]) -> PastTrial:
        """The trial of that name."""
        return PastTrial(name, {"trial": name, "parameters": dict(parameters)})


def replay(scheduler: Any, search: Search, trials: Sequence[optuna.trial.FrozenTrial]) -> None:
    """Shows `scheduler` what is on record of all `trials`, so that it compares with them.

    Values at a rung have no order, so theirs does not matter. A population is made of the trials that are left.
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
        experiment: With a `search` section.
        search: That section.
        run: The run directory.
        study: Of the search.
        heard: Told of each report with its trial's name.

    Returns:
        The names of those that were stopped.
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
            outcome.write(directory)  # first: on record, the report would look like one that it was let go on from
            record(study, trial, search, report)
            tell(study, trial, outcome)
            ended.append(name)
        else:
            record(study, trial, search, report)
    return ended


def _seen(trial: optuna.trial.FrozenTrial) -> dict[int, float]:
    """Step -> value; a trial that was stopped may have reported once more before it ended."""
    last = trial.user_attrs.get(STEP_ATTRIBUTE, math.inf) if trial.state.name == "PRUNED" else math.inf
    return {step: value for step, value in learning_curve(trial).items() if step <= last}


def _unseen(run: RunDirectory, name: str, trial: optuna.trial.FrozenTrial, search: Search) -> Iterator[dict[str, Any]]:
    """The reports with a checkpoint and a value that are not on record; without one, Tune never sees them."""
    known, outcome = learning_curve(trial), Outcome.read(run.trial(name))
    last = outcome.step if outcome is not None and outcome.kind is OutcomeKind.pruned else math.inf
    for report in read_metrics(run.trial(name).metrics):
        value = value_in(report, search.goals[0].name)
        if report.get("checkpoint") and value is not None and report["step"] not in known and report["step"] <= last:
            yield report
