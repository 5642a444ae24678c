"""`search.warm_start`: earlier trials that the sampler learns from. The study's storage holds its own trials only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.overrides import value_at
from raytune_ft.config.search.search import STEPS, Search
from raytune_ft.errors import InputError
from raytune_ft.metrics.named import sign
from raytune_ft.paths import RunDirectory, read_json, write_json
from raytune_ft.search.earlier_studies.earlier import EarlierStudy, EarlierTrial, read_study
from raytune_ft.search.earlier_studies.likeness import likeness
from raytune_ft.search.results.goals import values_in
from raytune_ft.search.sampling.fidelity import Peers, Whole
from raytune_ft.search.sampling.space import suggest
from raytune_ft.training.outcome import OutcomeKind

if TYPE_CHECKING:
    import optuna

    from raytune_ft.search.sampling.sampler_history import ShownStudy


@dataclass(frozen=True)
class TakenTrial:
    """One trial of an earlier study that is taken over.

    Attributes:
        parameters: Key path -> value, in this study's space.
        costs: One cost for each goal, less being better; None where the trial diverged.
        step: The last step that it reported.
    """

    parameters: dict[str, Any]
    costs: tuple[float, ...] | None
    step: int


@dataclass(frozen=True)
class Taken:
    """What a study takes over from an earlier one.

    Attributes:
        run: The earlier run directory, as the experiment names it.
        ended: How many of its trials ended.
        outside: How many of them lie outside of this study's space.
        weight: How alike the studies are, from 0 to 1; it decides how many trials are taken.
        differences: Why the weight is not 1, in words.
        trials: The trials that are taken, evenly over the ranks, the best one first.
    """

    run: str
    ended: int
    outside: int
    weight: float
    differences: tuple[str, ...]
    trials: tuple[TakenTrial, ...]

    def __str__(self) -> str:
        why = f" ({'; '.join(self.differences)})" if self.differences else ""
        outside = f"; {self.outside} lie outside of the space" if self.outside else ""
        taken = f"{len(self.trials)} of {self.ended} trials of {self.run}"
        return f"warm start: {taken}, weight {self.weight:.2g}{why}{outside}"


def check_warm_start(experiment: Experiment) -> None:
    """Raises InputError if `search.warm_start` names something other than a study, or a study of another metric."""
    if experiment.search is None:
        return
    own = experiment.run_directory
    if own.trials.is_dir() and own.warm_start.is_file():  # a resumed study reads what it recorded
        return
    for index, run in enumerate(experiment.search.warm_start):
        _read(experiment, experiment.search, run, f"search.warm_start.{index}: {run}")


def warm_start(experiment: Experiment, search: Search, run: RunDirectory) -> tuple[Taken, ...]:
    """Returns what the study takes from earlier ones; records it in the run, so that a resumed study takes the same.

    Raises:
        InputError: As `check_warm_start` does.
    """
    if not search.warm_start:
        return ()
    if run.trials.is_dir() and run.warm_start.is_file():
        return tuple(_again(each) for each in read_json(run.warm_start)["taken"])
    manifest = run.data / "manifest.json"
    fingerprint = read_json(manifest)["fingerprint"] if manifest.is_file() else ""
    taken = tuple(
        _take(
            _read(experiment, search, each, f"search.warm_start.{index}: {each}"), experiment, search, each, fingerprint
        )
        for index, each in enumerate(search.warm_start)
    )
    write_json(run.warm_start, {"schema": 1, "taken": [asdict(each) for each in taken]})
    return taken


def sources(taken: Sequence[Taken], experiment: Experiment, search: Search) -> list[ShownStudy]:
    """Returns the taken trials in the form in which samplers are shown them."""
    from optuna.trial import FixedTrial

    from raytune_ft.search.sampling.sampler_history import ShownStudy, ShownTrial

    defaults = experiment.model_dump(mode="json")
    found = []
    for each in taken:
        points = []
        for trial in each.trials:
            fixed: Any = FixedTrial(trial.parameters)
            suggest(fixed, search.space, defaults)
            points.append(ShownTrial(fixed.params, fixed.distributions, trial.costs, trial.step))
        found.append(ShownStudy(tuple(points), comparable=not each.differences))
    return found


def enqueue_best(study: optuna.Study, taken: Sequence[Taken]) -> None:
    """Enqueues the best configuration of each earlier study that differs from this one; may be called again."""
    for each in taken:
        if each.differences and each.trials and each.trials[0].costs:
            study.enqueue_trial(each.trials[0].parameters, skip_if_exists=True)


def _read(experiment: Experiment, search: Search, run: str, where: str) -> EarlierStudy:
    if Path(run).resolve() == experiment.run_directory.root:
        raise InputError(where, "is this study's own run directory", "add --resume to go on with it, and leave it out")
    try:
        earlier = read_study(Path(run))
    except InputError as error:
        raise InputError(where, error.what, error.remedy) from None
    except (ValueError, LookupError, OSError) as error:
        raise InputError(where, f"can't be read ({error})", "leave it out, or give another run directory") from error
    goal = search.goals[0]
    if (earlier.metric, earlier.mode) != (goal.name, goal.mode):
        what = f"looked for {earlier.mode} {earlier.metric}, and this study for {goal.mode} {goal.name}"
        raise InputError(where, what, "leave it out")
    return earlier


def _take(earlier: EarlierStudy, experiment: Experiment, search: Search, run: str, fingerprint: str) -> Taken:
    alike = likeness(earlier, experiment, search, Path(experiment.base_model).name, fingerprint)
    defaults = experiment.model_dump(mode="json")
    completed = (trial for trial in earlier.trials if trial.kind is OutcomeKind.completed and trial.curve)
    peers = Peers([_whole(trial, search) for trial in completed])
    usable, outside = [], 0
    for trial in earlier.trials:
        parameters = _within(earlier, trial, search, defaults)
        outside += parameters is None
        costs = _costs(trial, search, peers)
        # A trial that ran out of memory says nothing here: its machine may have been smaller.
        if parameters is not None and (costs or trial.kind is OutcomeKind.diverged):
            usable.append(TakenTrial(parameters, costs, max(trial.curve, default=0)))
    usable.sort(key=lambda each: each.costs or (math.inf,))
    shown = _evenly(usable, alike.weight, search.trials)
    return Taken(run, len(earlier.trials), outside, alike.weight, alike.differences, tuple(shown))


def _within(
    earlier: EarlierStudy, trial: EarlierTrial, search: Search, defaults: dict[str, Any]
) -> dict[str, Any] | None:
    """Returns the trial's configuration in this study's space; None if it lies outside."""
    space, chosen = search.space, dict[str, Any]()
    for key in space.in_order():
        if space.applies(key, chosen, defaults):
            value = earlier.setting(trial, key)
            if not space.parameters[key].holds(value):
                return None
            chosen[key] = value
    fixed_here = [key for key in trial.parameters if key not in space.parameters]
    return chosen if all(trial.parameters[key] == value_at(defaults, key) for key in fixed_here) else None


def _costs(trial: EarlierTrial, search: Search, peers: Peers) -> tuple[float, ...] | None:
    """Returns the trial's final costs, estimated if it was stopped; None if it failed or did not report all goals."""
    if trial.kind not in (OutcomeKind.completed, OutcomeKind.pruned):
        return None
    values, curve = values_in(trial.last, search.goals), _curve(trial, search)
    if trial.kind is OutcomeKind.pruned:
        return peers.costs_at_the_end(curve, values, search.goals, trial.parameters.get(STEPS))
    if any(goal.name not in values for goal in search.goals):
        return None
    return tuple(sign(goal) * values[goal.name] for goal in search.goals)


def _whole(trial: EarlierTrial, search: Search) -> Whole:
    curve = _curve(trial, search)
    return Whole(curve, curve[max(curve)])


def _curve(trial: EarlierTrial, search: Search) -> dict[int, float]:
    return {step: sign(search.goals[0]) * value for step, value in trial.curve.items()}


def _evenly(ranked: Sequence[TakenTrial], weight: float, wanted: int) -> list[TakenTrial]:
    """Returns all trials of an equal study; of another one so few that the study's own outnumber them in the end."""
    count = len(ranked) if weight == 1.0 else math.ceil(weight * min(len(ranked), wanted))
    if count < 2:
        return list(ranked[:count])
    return [ranked[round(place * (len(ranked) - 1) / (count - 1))] for place in range(count)]


def _again(plain: dict[str, Any]) -> Taken:
    trials = [
        TakenTrial(each["parameters"], None if each["costs"] is None else tuple(each["costs"]), each["step"])
        for each in plain["trials"]
    ]
    return Taken(**{**plain, "differences": tuple(plain["differences"]), "trials": tuple(trials)})
