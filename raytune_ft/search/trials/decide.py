"""Decides how a trial ended, from what it left behind; this is the one place that does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.search import STEPS, Search
from raytune_ft.metrics.report import value_in
from raytune_ft.paths import TrialDirectory, read_json
from raytune_ft.training.outcome import Outcome, OutcomeKind


def decide_outcome(
    found: Outcome | None, last: Mapping[str, Any], search: Search, steps: int, budget: str | None = None
) -> Outcome:
    """Returns the outcome of a trial that is no longer trained.

    Args:
        found: The outcome that its workers wrote, or None; it overrules all else.
        last: The trial's last report; empty where it made none, or where its process failed.
        search: The study's `search` section.
        steps: How many optimizer steps the trial was to run.
        budget: Which limit of the study's budget is reached, in words, or None.
    """
    if found is not None:
        return found
    step, value = int(last.get("step", 0)), value_in(last, search.goals[0].name)
    seconds = float(last.get("seconds", 0.0))
    if budget is not None and step < steps:
        when = f"at step {step}" if step else "before its first report"
        return Outcome(OutcomeKind.pruned, f"{budget} {when}", step, value, seconds)
    if value is None:
        return Outcome(OutcomeKind.failed, "the trial's process failed; see Ray's logs", step, None, seconds)
    if step >= steps:
        return Outcome(OutcomeKind.completed, f"ran all {step} steps", step, value, seconds)
    return Outcome(OutcomeKind.pruned, f"stopped by {search.scheduler.type} at step {step}", step, value, seconds)


def steps_of(experiment: Experiment, trial: TrialDirectory) -> int:
    """Returns how many optimizer steps the trial was to run: its own number if `train.max_steps` is searched."""
    parameters = read_json(trial.config)["parameters"] if trial.config.is_file() else {}
    return int(parameters.get(STEPS, experiment.train.max_steps))
