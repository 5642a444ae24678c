"""Who proposes configurations, as Optuna's samplers."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.algorithms import CmaEs, Gp, Grid, Nsga2, Nsga3, QuasiRandom, RandomSearch, Tpe
from raytune_ft.config.search.grid import lattice
from raytune_ft.config.search.search import Search, SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from raytune_ft.search.sampling.sampler_history import ShownStudy

_SOURCES = 10
"""CMA-ES starts where the best tenth of earlier trials lies, so it wants ten at least."""


def make_sampler(search: Search, experiment: Experiment, known: int, earlier: Sequence[ShownStudy] = ()) -> BaseSampler:
    """The sampler of `search.algorithm`; those that learn from trials see them as `SamplerHistory` shows them.

    The same seed gives the same configurations as long as trials end in the same order. After a restart a sampler goes
    on with another stream of draws, `seed + known`: what is decided beforehand (`grid`, `quasi_random`) stays the same,
    the rest is the same for the same `known`.

    Args:
        search: With the space.
        experiment: Its values decide conditions on settings that are not searched.
        known: Trials that the study holds: by its old seed a sampler that draws would draw their configurations again.
        earlier: Trials of earlier studies, for samplers that learn.
    """
    from optuna import samplers

    from raytune_ft.search.sampling.deduplicating import DeduplicatingSampler
    from raytune_ft.search.sampling.sampler_history import SamplerCapabilities, SamplerHistory
    from raytune_ft.search.sampling.sequence import SequenceSampler
    from raytune_ft.search.sampling.study_view import ViewingSampler

    algorithm = search.proposer
    seed = algorithm.seed + known
    match algorithm:
        case RandomSearch():
            return samplers.RandomSampler(seed=seed)
        case QuasiRandom():
            return SequenceSampler(_points(algorithm, search.space), seed)
        case Grid():
            return SequenceSampler(_grid(algorithm, search.space, experiment), seed)
        case Tpe(n_startup_trials=startup):
            # With conditions, settings that are searched together are modelled together.
            grouped = len(search.goals) == 1 and any(each.when for each in search.space.parameters.values())
            tpe = samplers.TPESampler(
                seed=seed, n_startup_trials=startup, group=grouped, multivariate=True if grouped else None
            )
            viewing = ViewingSampler(
                tpe, SamplerHistory(search.goals, SamplerCapabilities(stopped=True, constraints=True), earlier)
            )
            return DeduplicatingSampler(viewing, search.space, experiment.model_dump(mode="json"), seed)
        case Gp(n_startup_trials=startup, deterministic=exact):
            gp = samplers.GPSampler(seed=seed, n_startup_trials=startup, deterministic_objective=exact)
            return ViewingSampler(gp, SamplerHistory(search.goals, SamplerCapabilities(), earlier))
        case CmaEs():
            seen = SamplerHistory(search.goals, SamplerCapabilities(), earlier)
            cmaes = samplers.CmaEsSampler(
                seed=seed,
                n_startup_trials=algorithm.n_startup_trials,
                popsize=algorithm.population_size,
                warn_independent_sampling=False,  # `check` says it once
                source_trials=_sources(seen.trials([])),
            )
            return ViewingSampler(cmaes, seen)
        case Nsga2() | Nsga3():
            kind = samplers.NSGAIISampler if isinstance(algorithm, Nsga2) else samplers.NSGAIIISampler
            nsga = kind(
                seed=seed,
                population_size=algorithm.population_size,
                mutation_prob=algorithm.mutation_prob,
                crossover_prob=algorithm.crossover_prob,
            )
            sight = SamplerCapabilities(constraints=True, generation=kind._get_generation_key())
            return ViewingSampler(nsga, SamplerHistory(search.goals, sight, earlier))


def _sources(earlier: Sequence[FrozenTrial]) -> list[FrozenTrial] | None:
    """Earlier trials as CMA-ES takes them: ranges only, and so many that a tenth of them is one."""
    from optuna.distributions import CategoricalDistribution

    sources = []
    for trial in earlier:
        source = copy.copy(trial)
        source.distributions = {
            key: kind
            for key, kind in trial.distributions.items()
            if not isinstance(kind, CategoricalDistribution) and not kind.single()
        }
        sources.append(source)
    return sources * math.ceil(_SOURCES / len(sources)) if sources else None


def _grid(algorithm: Grid, space: SearchSpace, experiment: Experiment) -> Callable[[int], dict[str, Any]]:
    """Position -> configuration."""
    configurations = lattice(space, algorithm.points, experiment.model_dump(mode="json"))
    random.Random(algorithm.seed).shuffle(configurations)
    return lambda position: configurations[position % len(configurations)]


def _points(algorithm: QuasiRandom, space: SearchSpace) -> Callable[[int], dict[str, Any]]:
    """Position -> value of every setting, also of those whose conditions will not hold."""
    from scipy.stats import qmc

    engine = qmc.Sobol if algorithm.sequence == "sobol" else qmc.Halton
    keys = sorted(space.parameters)

    @cache  # each setting of a trial asks for it
    def point(position: int) -> dict[str, Any]:
        sequence = engine(len(keys), scramble=True, rng=algorithm.seed)
        if position:  # SciPy's Sobol refuses to skip none
            sequence.fast_forward(position)
        coordinates = sequence.random(1)[0]
        return {key: space.parameters[key].at(float(u)) for key, u in zip(keys, coordinates, strict=True)}

    return point
