"""`search:`: the space, the algorithm, the scheduler, and the size of the study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StrictFloat, StrictInt, ValidationInfo, field_validator, model_validator

from raytune_ft.config.files.overrides import value_at
from raytune_ft.config.model import Strict
from raytune_ft.config.search.algorithms import Algorithm, Portfolio, Proposer, Tpe
from raytune_ft.config.search.budget import Budget
from raytune_ft.config.search.goals import BestRule, Metric, MetricName, Mode
from raytune_ft.config.search.schedulers import Asha, Scheduler
from raytune_ft.metrics.named import EVAL_LOSS, OF_TRIALS

STEPS = "train.max_steps"
"""Where it is searched, each trial has an end of its own."""


class Parameter(Strict):
    """One dimension of the space, with exactly one of the distributions."""

    loguniform: tuple[StrictFloat, StrictFloat] | None = None
    """[low, high], uniform in the logarithm."""
    uniform: tuple[StrictFloat, StrictFloat] | None = None
    """[low, high]."""
    randint: tuple[StrictInt, StrictInt] | None = None
    """[low, high], both included."""
    choice: list[Any] | None = None
    """The possible values."""
    when: dict[str, Any] | None = None
    """Condition: it is searched only if each of these settings has this value."""

    @model_validator(mode="after")
    def _one_distribution(self) -> Parameter:
        given = [kind for kind in ("loguniform", "uniform", "randint", "choice") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of loguniform, uniform, randint, choice; has {given or 'none'}")
        if self.choice is not None and not self.choice:
            raise ValueError("choice: [] leaves nothing to try")
        bounds = self.loguniform or self.uniform or self.randint
        if bounds and bounds[0] > bounds[1]:
            raise ValueError(f"low {bounds[0]} is above high {bounds[1]}; write [{bounds[1]}, {bounds[0]}]")
        if self.loguniform and self.loguniform[0] <= 0:
            raise ValueError(f"loguniform needs low > 0, got {self.loguniform[0]}")
        return self

    def holds(self, value: Any) -> bool:
        """Tells whether this dimension can have `value`."""
        if self.choice is not None:
            return value in self.choice
        low, high = self.loguniform or self.uniform or self.randint or (math.inf, -math.inf)
        number = isinstance(value, int if self.randint else (int, float)) and not isinstance(value, bool)
        return number and low <= value <= high

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The ends of a range; None for a choice."""
        return self.loguniform or self.uniform or self.randint

    def extremes(self) -> list[Any]:
        """Returns the two ends of a range, or all values of a choice."""
        return list(self.choice or self.bounds or ())

    def at(self, u: float) -> Any:
        """Maps `u` in [0, 1] to a value, so that a uniform `u` gives the dimension's distribution."""
        if self.choice is not None:
            return self.choice[min(int(u * len(self.choice)), len(self.choice) - 1)]
        low, high = self.extremes()
        if self.randint:
            return min(low + int(u * (high - low + 1)), high)
        if self.loguniform:
            return min(max(low * (high / low) ** u, low), high)
        return min(low + u * (high - low), high)

    def distance(self, one: Any, other: Any) -> float:
        """Returns the distance of two values from 0 to 1: a fraction of a range's scale, or 0 or 1 for a choice."""
        if self.bounds is None or self.bounds[0] == self.bounds[1]:
            return float(one != other)
        low, high = self.bounds
        if self.loguniform:
            return abs(math.log(one / other)) / math.log(high / low)
        return float(abs(one - other)) / (high - low)


class SearchSpace(Strict):
    """The search space; its keys are key paths in the experiment, such as `train.learning_rate`."""

    parameters: dict[str, Parameter] = Field(min_length=1)
    """Key path in the experiment -> distribution; any setting of `train`, `method`, `resources`, or the `seed`."""
    start_from: list[dict[str, Any]] = []
    """Configurations to try first, in this order; the algorithm fills in missing parameters."""

    def in_order(self) -> list[str]:
        """Returns the keys, each after those that its condition depends on; circular ones in the order of the file."""
        ordered: list[str] = []
        waiting = list(self.parameters)
        while waiting:
            ready = [key for key in waiting if not set(self.parameters[key].when or {}) & set(waiting)] or waiting
            ordered += ready
            waiting = [key for key in waiting if key not in ready]
        return ordered

    def applies(self, key: str, chosen: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
        """Tells whether the condition of `key` holds for the values chosen so far and the experiment's `defaults`."""
        conditions = self.parameters[key].when or {}
        return all(chosen.get(on, value_at(defaults, on)) == value for on, value in conditions.items())


class Search(Strict):
    """The search of one study."""

    space: SearchSpace
    """A file of `search_spaces/`, or the space itself."""
    algorithm: Algorithm = Tpe()
    """Proposes trials: `tpe`, `gp`, `cmaes`, `nsga2`, `nsga3`, `quasi_random`, `random`, `grid` or `portfolio`."""
    scheduler: Scheduler = Asha()
    """Who stops the weak ones early: `asha`, `hyperband`, `bohb`, `median`, `pbt`, `pb2` or `none`."""
    metric: MetricName = EVAL_LOSS
    """The number that decides, by default the first that the objective reports: `eval_loss` of the validation split, as
    a mean over the answers' tokens, with `sft`; docs/methods.md names those of the others."""
    mode: Mode = "min"
    """Whether smaller (`min`) or larger (`max`) values are better; it follows from the metric."""
    metrics: list[Metric] = []
    """Several metrics instead of `metric` and `mode`; the scheduler uses the first one."""
    best: str | None = None
    """Winner with several metrics: `eval_loss within 1 %` of the best, and among those the best by the next metric."""
    trials: StrictInt = Field(16, ge=1)
    """Number of trials in the study."""
    budget: Budget = Budget()
    """Further limits of the study."""
    max_concurrent: StrictInt = Field(1, ge=1)
    """Most trials at once; each takes `resources`."""
    keep_checkpoints: Literal["all"] | Annotated[StrictInt, Field(ge=1)] = 3
    """Number of trials whose best weights stay on disk after their end: the first of the leaderboard or, with several
    metrics, the Pareto front and that many of the rest. Optimizer states of ended trials are always removed."""
    warm_start: list[str] = []
    """Run directories of earlier studies whose trials the algorithm learns from."""
    storage: str | None = None
    """Optuna storage URL, or a path to a journal file (`study.journal`); by default SQLite in the run's directory."""

    @property
    def proposer(self) -> Proposer:
        """The algorithm that proposes the configurations which no portfolio gives."""
        return self.algorithm.then if isinstance(self.algorithm, Portfolio) else self.algorithm

    @property
    def goals(self) -> tuple[Metric, ...]:
        """The metrics to optimise; the scheduler uses the first."""
        return tuple(self.metrics) or (Metric(name=self.metric, mode=self.mode),)

    def longest(self, steps: int) -> int:
        """Returns the optimizer steps of the longest possible trial; `steps` is the experiment's `train.max_steps`."""
        searched = self.space.parameters.get(STEPS)
        if searched is None:
            return steps
        return max(int(value) for value in [*searched.extremes(), *([steps] if searched.when else ())])

    @model_validator(mode="before")
    @classmethod
    def _to_the_better(cls, values: Any) -> Any:
        known = OF_TRIALS.get(str(values.get("metric"))) if isinstance(values, dict) else None
        return {"mode": known.direction, **values} if known else values

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, metrics: list[Metric]) -> list[Metric]:
        names = [goal.name for goal in metrics]
        if len(set(names)) != len(names):
            raise ValueError(f"{', '.join(names)}: repeat; each stands once")
        return metrics

    @field_validator("best")
    @classmethod
    def _rule_fits(cls, best: str | None, info: ValidationInfo) -> str | None:
        if best is None or "metrics" not in info.data:  # the metrics are invalid, which is reported already
            return best
        rule, names = BestRule.parse(best), [goal.name for goal in info.data["metrics"]]
        if len(names) < 2:
            raise ValueError(f"{best!r} leaves nothing to decide by; name {EVAL_LOSS} and another one in metrics")
        if rule.metric not in names:
            raise ValueError(f"{best!r} speaks of {rule.metric}, which metrics does not name; use {' or '.join(names)}")
        return best
