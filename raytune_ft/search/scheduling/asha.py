"""Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934): nobody waits at a rung.

The rule is that of ray 2.60's AsyncHyperBandScheduler; the class is our own for the sake of trials that a new driver
goes on with. Ray's enters a report at the highest rung below it that does not know the trial: the loss of step 100
would stand at rung 10. Here a report counts at a rung only where it was made there, and once, under the trial's name in
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
    """Stops a trial at a rung where it is not of the best fraction of those that came there before it.

    Args:
        metric: What trials are compared by.
        mode: `min` or `max`.
        rungs: Steps, of the longest trial.
        factor: One in this many goes on from each.
        steps: Of a trial whose parameters say nothing else.

    Attributes:
        rungs: Step -> trial's name -> the value that it had there.
    """

    def __init__(self, metric: str, mode: str, rungs: Collection[int], factor: int, steps: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._metric: Any = metric
        self._sign, self._factor, self._steps = (1.0 if mode == "max" else -1.0), factor, steps
        self.rungs: dict[int, dict[str, float]] = {step: {} for step in rungs}

    def remember(self, name: str, parameters: Mapping[str, Any], curve: Mapping[int, float]) -> None:
        """What an earlier driver saw of a trial: step -> value."""
        for step, value in curve.items():
            if (values := self._rung(name, parameters, step, value)) is not None:
                values[name] = value

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Nothing: a trial stands at a rung from its report there on."""

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
        """The values at the rung where this is the trial's first word; None elsewhere, and at its own last step."""
        values = self.rungs.get(step)
        if values is None or step >= parameters.get(STEPS, self._steps) or value is None:
            return None
        return values if name not in values and math.isfinite(value) else None

    def debug_string(self) -> str:
        counts = ", ".join(f"{len(values)} at step {step}" for step, values in self.rungs.items())
        return f"ASHA: {counts}"


def falls_behind(value: float, others: Collection[float], factor: int, sign: float) -> bool:
    """Whether a value is worse than the quantile of the others that one in `factor` reaches; nobody is, who is first.

    Args:
        value: The trial's.
        others: Of those that came to the rung before it.
        factor: The reduction factor.
        sign: -1 where less is better, else 1.
    """
    rewards = [sign * other for other in others]
    return bool(rewards) and sign * value < float(np.percentile(rewards, 100 * (1 - 1 / factor)))
