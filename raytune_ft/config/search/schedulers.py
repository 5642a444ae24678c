"""`search.scheduler:`: stops trials early, pauses them, or makes them copy others. Time is in optimizer steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictFloat, StrictInt

from raytune_ft.config.model import Strict

MUTABLE = ("train.learning_rate", "train.weight_decay", "train.max_grad_norm", "method.dropout")
"""Settings that a trial can change while it trains; a new rank, for example, would need another adapter."""


class NoScheduler(Strict):
    """Every trial runs to its last step."""

    type: Literal["none"] = "none"


class Asha(Strict):
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934), with Ray Tune's rule."""

    type: Literal["asha"] = "asha"
    grace_period: StrictInt = Field(10, ge=1)
    """Steps that every trial gets."""
    reduction_factor: StrictInt = Field(3, ge=2)
    """One in this many trials goes on from each rung."""


class _Brackets(Strict):
    """The common settings of the schedulers with brackets."""

    grace_period: StrictInt = Field(10, ge=1)
    """Least steps of the first rung; rungs are `train.max_steps` divided by powers of the factor."""
    reduction_factor: StrictInt = Field(3, ge=2)
    """One in this many trials goes on from each rung."""


class Hyperband(_Brackets):
    """Hyperband (Li et al. 2018, arXiv 1603.06560), Ray Tune's; a bracket's trials pause to wait for one another."""

    type: Literal["hyperband"] = "hyperband"


class Bohb(_Brackets):
    """BOHB (Falkner et al. 2018, arXiv 1807.01774): Hyperband with configurations that a model proposes."""

    type: Literal["bohb"] = "bohb"


class Median(Strict):
    """Median rule (Golovin et al. 2017), Ray Tune's: stops a trial whose best is worse than the others' median mean."""

    type: Literal["median"] = "median"
    grace_period: StrictInt = Field(10, ge=1)
    """Steps that every trial gets; also the steps between decisions if `train.eval_steps` is not set."""
    min_samples_required: StrictInt = Field(3, ge=1)
    """Number of other trials that must have reached the step."""


class _Rounds(Strict):
    """The common settings of population-based schedulers."""

    perturbation_interval: StrictInt = Field(10, ge=1)
    """Steps between exploits, in which each of the worst trials copies one of the best and gets new settings."""
    quantile_fraction: StrictFloat = Field(0.25, gt=0.0, le=0.5)
    """Fraction of the trials that are the best, and of those that are the worst."""


class Pbt(_Rounds):
    """Population-based training (Jaderberg et al. 2017, arXiv 1711.09846), Ray Tune's; all trials form a population."""

    type: Literal["pbt"] = "pbt"
    resample_probability: StrictFloat = Field(0.25, ge=0.0, le=1.0)
    """Probability that a setting is drawn at random instead of multiplied by 0.8 or 1.2."""


class Pb2(_Rounds):
    """Population-based bandits (Parker-Holder et al. 2020, arXiv 2002.02518), Ray Tune's: PBT that uses a model."""

    type: Literal["pb2"] = "pb2"


Halving = Asha | Hyperband | Bohb
Population = Pbt | Pb2
Scheduler = Annotated[NoScheduler | Asha | Hyperband | Bohb | Median | Pbt | Pb2, Field(discriminator="type")]
PAUSING = ("hyperband", "bohb", "pbt", "pb2")
"""Schedulers that pause trials, which only lanes support."""
