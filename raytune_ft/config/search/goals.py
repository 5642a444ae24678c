"""`search.metrics:` and `search.best:`: the metrics to optimise, and how the winner is chosen from the Pareto front."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import model_validator

from raytune_ft.config.model import Strict
from raytune_ft.metrics.named import OF_TRIALS, Direction

Mode = Direction

_RULE = re.compile(r"(\w+)\s+within\s+(\d+(?:\.\d+)?)\s*%")


MetricName = str
"""Name of a metric in a trial's reports; which there are, the objective says (`metric_fit.check_metrics`)."""


def _to_the_better(values: Any) -> Any:
    """Fills in the direction in which a known metric is better."""
    if isinstance(values, dict) and "mode" not in values and isinstance(facts := values.get("name"), str):
        return {**values, "mode": OF_TRIALS[facts].direction} if facts in OF_TRIALS else values
    return values


class Metric(Strict):
    """One metric to optimise."""

    name: MetricName
    """A metric of the objective's reports, such as `eval_loss`; or `adapter_mib` of the adapter's file,
    `train_seconds`, trained `tokens`."""
    mode: Mode = "min"
    """Whether smaller (`min`) or larger (`max`) values are better; of a known metric, its own direction by default."""

    @model_validator(mode="before")
    @classmethod
    def _its_direction(cls, values: Any) -> Any:
        return _to_the_better(values)


@dataclass(frozen=True)
class BestRule:
    """The rule for the winner: the other metrics decide among trials whose `metric` is within `within` of the best.

    `within` is relative to the best value.
    """

    metric: str
    within: float

    @staticmethod
    def parse(text: str) -> BestRule:
        """Reads `eval_loss within 1 %`.

        Raises:
            ValueError: The text does not have this form.
        """
        match = _RULE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no rule; write it as `eval_loss within 1 %`")
        return BestRule(match[1], float(match[2]) / 100)
