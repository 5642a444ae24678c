"""The median stopping rule.

Read against ray 2.60's MedianStoppingRule, which remembers a trial's last result a second time when it ends, and fails
at the next report where a trial ended before its first; and which pauses trials while it knows too few. It would take a
trial that a new driver resumes for another one; here trials are identified by their names in the study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import MedianStoppingRule, TrialScheduler

from raytune_ft.config.search.search import STEPS
from raytune_ft.search.study.searcher import PARAMETERS, TRIAL


@dataclass(frozen=True)
class _Named:
    """Stands for a trial in Ray's rule, which reads no more of it than this."""

    trial_id: str


class Median(MedianStoppingRule):
    """Stops a trial whose best value is worse than the median of the others' means so far; never pauses one.

    Args:
        metric: Name of the metric that trials are compared by.
        mode: `min` or `max`.
        grace_period: Steps before which no trial is stopped.
        min_samples_required: How many other trials must have come as far.
        steps: Length in steps of a trial whose parameters don't set it.
    """

    def __init__(self, metric: str, mode: str, grace_period: int, min_samples_required: int, steps: int) -> None:
        super().__init__("step", metric, mode, grace_period, min_samples_required)
        self._steps = steps

    def remember(self, name: str, parameters: Mapping[str, Any], curve: Mapping[int, float]) -> None:
        """Records the `curve` (step -> value) that an earlier driver saw of a trial."""
        if curve:
            self._results[_Named(name)] = [{"step": step, self._metric: curve[step]} for step in sorted(curve)]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        known = self._results.get(named := _Named(trial.config[TRIAL]))
        if known and result.get("step", 0) <= known[-1]["step"]:  # a restored trial repeats a report that was decided
            return str(TrialScheduler.CONTINUE)
        decision = str(super().on_trial_result(tune_controller, named, result))  # type: ignore[arg-type]
        ends = result.get("step", 0) >= trial.config[PARAMETERS].get(STEPS, self._steps)
        return str(TrialScheduler.CONTINUE) if ends else decision

    def _on_insufficient_samples(self, tune_controller: Any, trial: Any, time: float) -> str:
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Does nothing: the trial's reports are recorded already."""
