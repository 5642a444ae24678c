"""The median stopping rule.

Read against ray 2.60's MedianStoppingRule, which remembers a trial's last result a second time when it ends, and fails
at the next report where a trial ended before its first; and which pauses trials while it knows too few.
"""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import MedianStoppingRule, TrialScheduler

from raytune_ft.config.scheduler_fit import STEPS


class Median(MedianStoppingRule):
    """Stops a trial whose best is worse than the median of the others' means so far; never pauses one.

    Args:
        metric: What trials are compared by.
        mode: `min` or `max`.
        grace_period: Steps before which none is stopped.
        min_samples_required: Other trials that must have come as far.
        steps: Of a trial whose parameters say nothing else.
    """

    def __init__(self, metric: str, mode: str, grace_period: int, min_samples_required: int, steps: int) -> None:
        super().__init__("step", metric, mode, grace_period, min_samples_required)
        self._steps = steps

    def remember(self, trial: Any, reports: list[dict[str, Any]]) -> None:
        """A trial that an earlier driver saw."""
        if reports:
            self._results[trial] = list(reports)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = str(super().on_trial_result(tune_controller, trial, result))
        ends = result.get("step", 0) >= trial.config["parameters"].get(STEPS, self._steps)
        return str(TrialScheduler.CONTINUE) if ends else decision

    def _on_insufficient_samples(self, tune_controller: Any, trial: Any, time: float) -> str:
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Nothing: what it reported is known."""
