"""`search:`: the space, who proposes configurations, who stops them, and how many there are."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, StrictFloat, StrictInt, model_validator

from raytune_ft.config.algorithms import Algorithm, Tpe
from raytune_ft.config.model import Strict


class NoScheduler(Strict):
    """Every trial runs to its last step."""

    type: Literal["none"] = "none"


class Asha(Strict):
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934), Ray Tune's."""

    type: Literal["asha"] = "asha"
    grace_period: StrictInt = Field(10, ge=1)
    """Steps that every trial gets."""
    reduction_factor: StrictInt = Field(3, ge=2)
    """One in this many goes on from each rung."""


Scheduler = Annotated[NoScheduler | Asha, Field(discriminator="type")]


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
    """Who proposes the next configuration: `tpe`, `gp`, `quasi_random`, `random` or `grid`."""
    scheduler: Scheduler = Asha()
    """Who stops the weak ones early: `asha` or `none`."""
    metric: str = "eval_loss"
    """The number that decides; `eval_loss` is the validation split's, as transformers' Trainer computes it."""
    mode: Literal["min", "max"] = "min"
    """Whether less or more of it is better."""
    trials: StrictInt = Field(16, ge=1)
    """Trials in the study."""
    max_concurrent: StrictInt = Field(1, ge=1)
    """Trials at once; each takes `resources`."""
    storage: str | None = None
    """Optuna storage URL; by default SQLite in the run's directory."""

    @model_validator(mode="after")
    def _known_metric(self) -> Search:
        if self.metric != "eval_loss" or self.mode != "min":
            raise ValueError(
                f"metric {self.metric!r} ({self.mode}) is not reported by trials; use eval_loss with mode min"
            )
        return self
