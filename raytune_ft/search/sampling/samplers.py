"""Makes the Optuna sampler that proposes configurations."""

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
"""CMA-ES starts from the best tenth of the earlier trials, so it needs ten at least."""


def make_sampler(search: Search, experiment: Experiment, known: int, earlier: Sequence[ShownStudy] = ()) -> BaseSampler:
    """Returns the sampler of `search.algorithm`; those that learn from trials see them as `SamplerHistory` shows them.

    The same seed gives the same configurations as long as trials end in the same order. After a restart a sampler goes
    on with another stream of draws, of the seed `seed + known`: configurations that are fixed beforehand (`grid`,
    `quasi_random`) stay the same, the others are the same for the same `known`.

    Args:
        search: The `search` section, with the space.
        experiment: The experiment; its values decide conditions on settings that are not searched.
        known: Number of trials that the study holds; with the old seed, their configurations would be drawn again.
        earlier: Trials of earlier studies, for samplers that learn from trials.
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
    """Returns earlier trials as CMA-ES takes them: with numeric ranges only, repeated until there are ten at least."""
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
    """Returns a function from a position to the grid's configuration there, in shuffled order."""
    configurations = lattice(space, algorithm.points, experiment.model_dump(mode="json"))
    random.Random(algorithm.seed).shuffle(configurations)
    return lambda position: configurations[position % len(configurations)]


def _points(algorithm: QuasiRandom, space: SearchSpace) -> Callable[[int], dict[str, Any]]:
    """Returns a function from a position to the values of all settings, also of those whose conditions do not hold."""
    from scipy.stats import qmc

    engine = qmc.Sobol if algorithm.sequence == "sobol" else qmc.Halton
    keys = sorted(space.parameters)

    @cache  # it is called for each setting of a trial
    def point(position: int) -> dict[str, Any]:
        sequence = engine(len(keys), scramble=True, rng=algorithm.seed)
        if position:  # SciPy's Sobol refuses to skip 0 points
            sequence.fast_forward(position)
        coordinates = sequence.random(1)[0]
        return {key: space.parameters[key].at(float(u)) for key, u in zip(keys, coordinates, strict=True)}

    return point
