"""`search.algorithm:`: the algorithm that proposes the next configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, model_validator

from raytune_ft.config.model import Strict
from raytune_ft.config.objectives.choice import DEFAULT


class RandomSearch(Strict):
    """Random search: draws each configuration independently."""

    type: Literal["random"] = "random"
    seed: StrictInt = 0
    """Seed of the draws."""


class QuasiRandom(Strict):
    """Quasi-random search: the points of a scrambled sequence, without gaps and clusters (Bousquet et al. 2017)."""

    type: Literal["quasi_random"] = "quasi_random"
    seed: StrictInt = 0
    """Seed of the scrambling."""
    sequence: Literal["sobol", "halton"] = "sobol"
    """The sequence; `sobol` is most even at 2, 4, 8, ... trials."""


class Grid(Strict):
    """Grid search: every combination once, in random order; with conditions, only of the settings that apply."""

    type: Literal["grid"] = "grid"
    seed: StrictInt = 0
    """Seed of the order."""
    points: StrictInt = Field(3, ge=1)
    """Number of values of each range, evenly from its low to its high end; of a choice all values are taken."""


class Tpe(Strict):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), Optuna's, multivariate."""

    type: Literal["tpe"] = "tpe"
    seed: StrictInt = 0
    """Seed of the sampler."""
    n_startup_trials: StrictInt = Field(4, ge=0)
    """Trials drawn at random before the model is used."""


class Gp(Strict):
    """Bayesian optimisation with a Gaussian process, Optuna's."""

    type: Literal["gp"] = "gp"
    seed: StrictInt = 0
    """Seed of the sampler."""
    n_startup_trials: StrictInt = Field(4, ge=1)
    """Trials drawn at random before the model is used."""
    deterministic: StrictBool = False
    """Treat values as exact; by default the process models noise."""


class CmaEs(Strict):
    """Covariance matrix adaptation (Hansen and Ostermeier 2001), Optuna's; it optimises ranges, choices stay random."""

    type: Literal["cmaes"] = "cmaes"
    seed: StrictInt = 0
    """Seed of the sampler."""
    n_startup_trials: StrictInt = Field(1, ge=1)
    """Trials drawn at random before the model is used."""
    population_size: StrictInt | None = Field(None, ge=4)
    """Trials of a generation; by default 4 + 3 times the logarithm of the number of ranges."""


class _Genetic(Strict):
    """The common settings of the genetic algorithms."""

    seed: StrictInt = 0
    """Seed of the sampler."""
    population_size: StrictInt = Field(8, ge=2)
    """Trials of a generation; the first one is drawn at random."""
    mutation_prob: StrictFloat | None = Field(None, ge=0.0, le=1.0)
    """Probability that a setting of a child is drawn at random; by default one setting of a child on average."""
    crossover_prob: StrictFloat = Field(0.9, ge=0.0, le=1.0)
    """Probability that a child has two parents instead of one."""


class Nsga2(_Genetic):
    """NSGA-II (Deb et al. 2002), Optuna's genetic algorithm for several metrics."""

    type: Literal["nsga2"] = "nsga2"


class Nsga3(_Genetic):
    """NSGA-III (Deb and Jain 2014), Optuna's genetic algorithm that keeps the front even, for three or more metrics."""

    type: Literal["nsga3"] = "nsga3"


Proposer = Annotated[RandomSearch | QuasiRandom | Grid | Tpe | Gp | CmaEs | Nsga2 | Nsga3, Field(discriminator="type")]


class Portfolio(Strict):
    """Tries configurations that did well on other data sets, each chosen where the ones before it do badly, and then
    continues with another algorithm.

    Coverage-based search (Halfon et al. 2024, arXiv 2407.18990).
    """

    type: Literal["portfolio"] = "portfolio"
    file: str | None = None
    """A file that `raytune-ft portfolio build` wrote, or one of `search_spaces/portfolios/`."""
    configurations: list[dict[str, Any]] = []
    """The configurations in the order in which they are tried; read from `file` if they are not given."""
    objective: str = DEFAULT
    """The objective of the studies that the configurations come from; read from `file` too."""
    first: StrictInt = Field(4, ge=1)
    """Number of configurations to try, after the space's `start_from`; each is fitted into the space."""
    then: Proposer = Tpe(n_startup_trials=0)
    """Algorithm that proposes after them; by default `tpe` without random trials, which the portfolio's replace."""

    @model_validator(mode="after")
    def _not_empty(self) -> Portfolio:
        if not self.configurations or not all(self.configurations):
            raise ValueError("the portfolio has no configurations; name a file, or list them under configurations")
        return self

    @property
    def seed(self) -> int:
        """The seed of the algorithm that proposes after the portfolio."""
        return self.then.seed


Algorithm = Annotated[Proposer | Portfolio, Field(discriminator="type")]
