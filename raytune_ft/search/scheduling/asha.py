"""Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934): no trial waits at a rung.

The rule is that of ray 2.60's AsyncHyperBandScheduler; the class is our own because of trials that a new driver
resumes. Ray's class records a report at the highest rung below it that does not know the trial: the loss of step 100
would be recorded at rung 10. Here a report counts only at the rung of its own step, and once, under the trial's name in
the study, which a resume does not change.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from raytune_ft.config.search.search import STEPS
from raytune_ft.search.study.searcher import PARAMETERS, TRIAL


class Asha(FIFOScheduler):
    """Stops a trial at a rung if it is not among the best fraction of the trials that reached the rung before it.

    Args:
        metric: Name of the metric that trials are compared by.
        mode: `min` or `max`.
        rungs: Optimizer steps of the rungs, for the longest trial.
        factor: The reduction factor: about one in this many trials goes on from each rung.
        steps: Length in steps of a trial whose parameters don't set it.

    Attributes:
        rungs: The values recorded at each rung: step -> trial's name -> value.
    """

    def __init__(self, metric: str, mode: str, rungs: Collection[int], factor: int, steps: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._metric: Any = metric
        self._sign, self._factor, self._steps = (1.0 if mode == "max" else -1.0), factor, steps
        self.rungs: dict[int, dict[str, float]] = {step: {} for step in rungs}

    def remember(self, name: str, parameters: Mapping[str, Any], curve: Mapping[int, float]) -> None:
        """Records the `curve` (step -> value) that an earlier driver saw of a trial."""
        for step, value in curve.items():
            if (values := self._rung(name, parameters, step, value)) is not None:
                values[name] = value

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Does nothing: a trial is recorded at a rung when it reports there."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        name, value = trial.config[TRIAL], result.get(self._metric)
        values = self._rung(name, trial.config[PARAMETERS], result.get("step", 0), value)
        if values is None or value is None:
            return str(TrialScheduler.CONTINUE)
        behind = falls_behind(value, values.values(), self._factor, self._sign)
        values[name] = value
        return str(TrialScheduler.STOP if behind else TrialScheduler.CONTINUE)

    def _rung(
        self, name: str, parameters: Mapping[str, Any], step: int, value: float | None
    ) -> dict[str, float] | None:
        """Returns the values at the rung of `step`, if the trial's report counts there.

        Returns None if `step` is no rung or the trial's last step, if the value is None or not finite, or if it has
        reported there before.
        """
        values = self.rungs.get(step)
        if values is None or step >= parameters.get(STEPS, self._steps) or value is None:
            return None
        return values if name not in values and math.isfinite(value) else None

    def debug_string(self) -> str:
        counts = ", ".join(f"{len(values)} at step {step}" for step, values in self.rungs.items())
        return f"ASHA: {counts}"


def falls_behind(value: float, others: Collection[float], factor: int, sign: float) -> bool:
    """Returns whether a value is worse than the best 1/`factor` quantile of the others; the first one at a rung is not.

    Args:
        value: The trial's value.
        others: Values of the trials that reached the rung before it.
        factor: The reduction factor.
        sign: -1 where less is better, else 1.
    """
    rewards = [sign * other for other in others]
    return bool(rewards) and sign * value < float(np.percentile(rewards, 100 * (1 - 1 / factor)))
