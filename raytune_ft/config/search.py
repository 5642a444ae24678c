"""`search:`: the space, who proposes configurations, who stops them, and how many there are."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, StrictFloat, StrictInt, model_validator

from raytune_ft.config.algorithms import Algorithm, Tpe
from raytune_ft.config.budget import Budget
from raytune_ft.config.goals import BestRule, Metric, MetricName, Mode
from raytune_ft.config.model import Strict
from raytune_ft.config.schedulers import Asha, Scheduler


class Parameter(Strict):
    """One dimension of the space: exactly one of the distributions."""

    loguniform: tuple[StrictFloat, StrictFloat] | None = None
    """[low, high], uniform in the logarithm."""
    uniform: tuple[StrictFloat, StrictFloat] | None = None
    """[low, high]."""
    randint: tuple[StrictInt, StrictInt] | None = None
    """[low, high], both included."""
    choice: list[Any] | None = None
    """Any of these values."""
    when: dict[str, Any] | None = None
    """Only searched where each of these settings has this value."""

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
        """Whether this dimension can take `value`."""
        if self.choice is not None:
            return value in self.choice
        low, high = self.loguniform or self.uniform or self.randint or (math.inf, -math.inf)
        number = isinstance(value, int if self.randint else (int, float)) and not isinstance(value, bool)
        return number and low <= value <= high

    def extremes(self) -> list[Any]:
        """The values that bound the dimension, or all of a choice."""
        return list(self.choice or self.loguniform or self.uniform or self.randint or ())


class SearchSpace(Strict):
    """What is searched: keys are paths into the experiment, e.g. `train.learning_rate`."""

    parameters: dict[str, Parameter] = Field(min_length=1)
    """Path into the experiment -> distribution; any setting of `train`, `method`, `resources`, or the `seed`."""
    start_from: list[dict[str, Any]] = []
    """Configurations tried first, in this order; a missing parameter is drawn."""


class Search(Strict):
    """One study."""

    space: SearchSpace
    """A file of `search_spaces/`, or the space itself."""
    algorithm: Algorithm = Tpe()
    """Who proposes the next configuration: `tpe`, `gp`, `cmaes`, `nsga2`, `nsga3`, `quasi_random`, `random`, `grid`."""
    scheduler: Scheduler = Asha()
    """Who stops the weak ones early: `asha`, `hyperband`, `bohb`, `median`, `pbt`, `pb2` or `none`."""
    metric: MetricName = "eval_loss"
    """The number that decides; `eval_loss` is the validation split's, as transformers' Trainer computes it."""
    mode: Mode = "min"
    """Whether less or more of it is better."""
    metrics: list[Metric] = []
    """Several goals instead of `metric` and `mode`; the scheduler looks at the first one."""
    best: str | None = None
    """The winner among several goals: `eval_loss within 1 %` of the best, and of those the best by the next goal."""
    trials: StrictInt = Field(16, ge=1)
    """Trials in the study."""
    budget: Budget = Budget()
    """What else the study may use up."""
    max_concurrent: StrictInt = Field(1, ge=1)
    """Trials at once; each takes `resources`."""
    warm_start: list[str] = []
    """Run directories of earlier studies whose trials the algorithm learns from."""
    storage: str | None = None
    """Optuna storage URL, or a path to a journal file (`study.journal`); by default SQLite in the run's directory."""

    @property
    def goals(self) -> tuple[Metric, ...]:
        """What counts, the metric that the scheduler looks at first."""
        return tuple(self.metrics) or (Metric(name=self.metric, mode=self.mode),)

    @model_validator(mode="after")
    def _goals_fit(self) -> Search:
        first = self.goals[0]
        if first.name != "eval_loss" or first.mode != "min":
            raise ValueError(
                f"metric {first.name!r} ({first.mode}) can't lead: only eval_loss (min) tells of a trial before its "
                f"end how good it is; put it first"
            )
        names = [goal.name for goal in self.metrics]
        if len(set(names)) != len(names):
            raise ValueError(f"metrics {names} repeat; each stands once")
        if self.best is not None:
            rule = BestRule.parse(self.best)
            if rule.metric not in names or len(names) < 2:
                raise ValueError(f"best: {self.best!r} needs {rule.metric} and another one in metrics; add them")
        return self
