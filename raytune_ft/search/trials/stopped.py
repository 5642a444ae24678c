"""How a trial ended that left no outcome of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.search import STEPS, Search
from raytune_ft.paths import TrialDirectory, read_json
from raytune_ft.training.outcome import Outcome, OutcomeKind


def steps_of(experiment: Experiment, trial: TrialDirectory) -> int:
    """Optimizer steps of the trial, which are its own where `train.max_steps` is searched."""
    parameters = read_json(trial.config)["parameters"] if trial.config.is_file() else {}
    return int(parameters.get(STEPS, experiment.train.max_steps))


def stopped(search: Search, steps: int, result: Mapping[str, Any]) -> Outcome:
    """The scheduler stopped it, or its proxy died (which has no result).

    Args:
        search: The study's.
        steps: Of the trial.
        result: Its last report, or nothing.
    """
    step, value = int(result.get("step", 0)), result.get(search.goals[0].name)
    seconds = float(result.get("seconds", 0.0))
    if value is None:
        return Outcome(OutcomeKind.failed, "the trial's process failed; see Ray's logs", step, None, seconds)
    if step >= steps:
        return Outcome(OutcomeKind.completed, f"ran all {step} steps", step, value, seconds)
    return Outcome(OutcomeKind.pruned, f"stopped by {search.scheduler.type} at step {step}", step, value, seconds)
