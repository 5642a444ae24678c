"""`search.algorithm:`: who proposes the next configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt

from raytune_ft.config.model import Strict


class RandomSearch(Strict):
    """Independent draws."""

    type: Literal["random"] = "random"
    seed: StrictInt = 0
    """Seed of the draws."""


class QuasiRandom(Strict):
    """The points of a scrambled sequence: random, but without gaps and clusters (Bousquet et al. 2017)."""

    type: Literal["quasi_random"] = "quasi_random"
    seed: StrictInt = 0
    """Seed of the scrambling."""
    sequence: Literal["sobol", "halton"] = "sobol"
    """Which sequence; `sobol` is most even at 2, 4, 8, ... trials."""


class Grid(Strict):
    """Every combination once, in random order; with conditions, each combination of the settings that apply."""

    type: Literal["grid"] = "grid"
    seed: StrictInt = 0
    """Seed of the order."""
    points: StrictInt = Field(3, ge=1)
    """Values of each range, evenly from its low to its high end; a choice has its own."""


class Tpe(Strict):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), Optuna's, multivariate."""

    type: Literal["tpe"] = "tpe"
    seed: StrictInt = 0
    """Seed of the sampler."""
    n_startup_trials: StrictInt = Field(4, ge=0)
    """Trials drawn at random before the model is used."""


class Gp(Strict):
    """Bayesian optimisation with a Gaussian process, Optuna's; learns from trials that ran to their last step only."""

    type: Literal["gp"] = "gp"
    seed: StrictInt = 0
    """Seed of the sampler."""
    n_startup_trials: StrictInt = Field(4, ge=1)
    """Trials drawn at random before the model is used."""
    deterministic: StrictBool = False
    """Take values as exact; by default the process has a noise of its own."""


Algorithm = Annotated[RandomSearch | QuasiRandom | Grid | Tpe | Gp, Field(discriminator="type")]
