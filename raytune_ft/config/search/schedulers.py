"""`search.scheduler:`: who stops trials early, pauses them, or has them copy one another. Time is optimizer steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictFloat, StrictInt

from raytune_ft.config.model import Strict

MUTABLE = ("train.learning_rate", "train.weight_decay", "train.max_grad_norm", "method.dropout")
"""What a trial may change while it trains; a rank, say, would be of another adapter."""


class NoScheduler(Strict):
    """Every trial runs to its last step."""

    type: Literal["none"] = "none"


class Asha(Strict):
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934), by Ray Tune's rule."""

    type: Literal["asha"] = "asha"
    grace_period: StrictInt = Field(10, ge=1)
    """Steps that every trial gets."""
    reduction_factor: StrictInt = Field(3, ge=2)
    """One in this many goes on from each rung."""


class _Brackets(Strict):
    """What the two that fill brackets have in common."""

    grace_period: StrictInt = Field(10, ge=1)
    """Steps of the shortest rung at least; rungs are `train.max_steps` divided by powers of the factor."""
    reduction_factor: StrictInt = Field(3, ge=2)
    """One in this many goes on from each rung."""


class Hyperband(_Brackets):
    """Hyperband (Li et al. 2018, arXiv 1603.06560), Ray Tune's: brackets whose trials wait for one another, paused."""

    type: Literal["hyperband"] = "hyperband"


class Bohb(_Brackets):
    """BOHB (Falkner et al. 2018, arXiv 1807.01774): Hyperband whose configurations a model proposes."""

    type: Literal["bohb"] = "bohb"


class Median(Strict):
    """Stops a trial whose best is worse than the median of the others' means (Golovin et al. 2017), Ray Tune's."""

    type: Literal["median"] = "median"
    grace_period: StrictInt = Field(10, ge=1)
    """Steps that every trial gets, and between looks where `train.eval_steps` is not set."""
    min_samples_required: StrictInt = Field(3, ge=1)
    """Other trials that must have come as far."""


class _Rounds(Strict):
    """What the two that train a population have in common."""

    perturbation_interval: StrictInt = Field(10, ge=1)
    """Steps between looks; each of the worst then takes weights and optimizer of one of the best, and new settings."""
    quantile_fraction: StrictFloat = Field(0.25, gt=0.0, le=0.5)
    """How many are the best, and how many the worst."""


class Pbt(_Rounds):
    """Population-based training (Jaderberg et al. 2017, arXiv 1711.09846), Ray Tune's; every trial is of it."""

    type: Literal["pbt"] = "pbt"
    resample_probability: StrictFloat = Field(0.25, ge=0.0, le=1.0)
    """How often a setting is drawn anew instead of moved by 0.8 or 1.2."""


class Pb2(_Rounds):
    """Population-based bandits (Parker-Holder et al. 2020, arXiv 2002.02518), Ray Tune's: PBT with a model."""

    type: Literal["pb2"] = "pb2"


Halving = Asha | Hyperband | Bohb
Population = Pbt | Pb2
Scheduler = Annotated[NoScheduler | Asha | Hyperband | Bohb | Median | Pbt | Pb2, Field(discriminator="type")]
PAUSING = ("hyperband", "bohb", "pbt", "pb2")
"""Those that pause trials, which only lanes can."""
