"""The median stopping rule.

Read against ray 2.60's MedianStoppingRule, which remembers a trial's last result a second time when it ends, and fails
at the next report where a trial ended before its first; and which pauses trials while it knows too few. It would take a
trial that a new driver goes on with for another one; here trials are known by their names in the study.
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
    """What Ray's rule looks at in a trial."""

    trial_id: str


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

    def remember(self, name: str, parameters: Mapping[str, Any], curve: Mapping[int, float]) -> None:
        """What an earlier driver saw of a trial: step -> value."""
        if curve:
            self._results[_Named(name)] = [{"step": step, self._metric: curve[step]} for step in sorted(curve)]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        known = self._results.get(named := _Named(trial.config[TRIAL]))
        if known and result.get("step", 0) <= known[-1]["step"]:  # restored, it repeats what was decided
            return str(TrialScheduler.CONTINUE)
        decision = str(super().on_trial_result(tune_controller, named, result))  # type: ignore[arg-type]
        ends = result.get("step", 0) >= trial.config[PARAMETERS].get(STEPS, self._steps)
        return str(TrialScheduler.CONTINUE) if ends else decision

    def _on_insufficient_samples(self, tune_controller: Any, trial: Any, time: float) -> str:
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Nothing: what it reported is known."""
