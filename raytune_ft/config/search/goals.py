"""`search.metrics:` and `search.best:`: the metrics to optimise, and how the winner is chosen from the Pareto front."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator

from raytune_ft.config.model import Strict
from raytune_ft.metrics.named import OF_TRIALS, Direction

Mode = Direction

_RULE = re.compile(r"(\w+)\s+within\s+(\d+(?:\.\d+)?)\s*%")


def _reported(name: Any) -> Any:
    if isinstance(name, str) and name not in OF_TRIALS:
        near = difflib.get_close_matches(name, OF_TRIALS, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"use one of: {', '.join(OF_TRIALS)}"
        raise ValueError(f"metric {name!r} is not reported by trials; {remedy}")
    return name


if TYPE_CHECKING:
    _Name = str
else:
    _Name = Literal[tuple(OF_TRIALS)]
MetricName = Annotated[_Name, BeforeValidator(_reported)]
"""Name of a metric in a trial's reports."""


class Metric(Strict):
    """One metric to optimise."""

    name: MetricName
    """`eval_loss` of the validation split, `adapter_mib` of the adapter's file, `train_seconds`, trained `tokens`."""
    mode: Mode = "min"
    """Whether smaller (`min`) or larger (`max`) values are better."""


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
