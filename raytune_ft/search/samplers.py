"""Who proposes configurations, as Optuna's samplers."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from raytune_ft.config.algorithms import Gp, Grid, QuasiRandom, RandomSearch, Tpe
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.grid import axis
from raytune_ft.config.search import Parameter, Search, SearchSpace
from raytune_ft.search.space import suggest

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


def make_sampler(search: Search, experiment: Experiment, known: int) -> BaseSampler:
    """The sampler of `search.algorithm`.

    Args:
        search: With the space.
        experiment: Its values decide conditions on settings that are not searched.
        known: Trials that the study holds: by its old seed a sampler that draws would draw their configurations again.
    """
    from optuna import samplers

    from raytune_ft.search.sequence import SequenceSampler

    algorithm = search.algorithm
    seed = algorithm.seed + known
    match algorithm:
        case RandomSearch():
            return samplers.RandomSampler(seed=seed)
        case QuasiRandom():
            return SequenceSampler(_points(algorithm, search.space), seed)
        case Grid():
            return SequenceSampler(_grid(algorithm, search.space, experiment), seed)
        case Tpe():
            return samplers.TPESampler(seed=seed, n_startup_trials=algorithm.n_startup_trials)
        case Gp():
            return samplers.GPSampler(
                seed=seed,
                n_startup_trials=algorithm.n_startup_trials,
                deterministic_objective=algorithm.deterministic,
            )


def _grid(algorithm: Grid, space: SearchSpace, experiment: Experiment) -> Callable[[int], dict[str, Any]]:
    """Position -> configuration."""
    configurations = lattice(space, algorithm.points, experiment.model_dump(mode="json"))
    random.Random(algorithm.seed).shuffle(configurations)
    return lambda position: configurations[position % len(configurations)]


def lattice(space: SearchSpace, points: int, defaults: dict[str, Any]) -> list[dict[str, Any]]:
    """Every configuration of the grid once: key path -> value, of the settings whose conditions hold.

    Args:
        space: What is searched.
        points: Of each range.
        defaults: The experiment's values, for conditions on settings that are not searched.
    """
    from itertools import product

    from optuna.trial import FixedTrial

    axes = {key: axis(parameter, points) for key, parameter in space.parameters.items()}
    found: dict[str, dict[str, Any]] = {}
    for values in product(*axes.values()):
        trial: Any = FixedTrial(dict(zip(axes, values, strict=True)))
        configuration = suggest(trial, space, defaults)
        found.setdefault(repr(sorted(configuration.items())), configuration)
    return list(found.values())


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
        return {key: at(space.parameters[key], float(u)) for key, u in zip(keys, coordinates, strict=True)}

    return point


def at(parameter: Parameter, u: float) -> Any:
    """The value of a dimension at `u` of [0, 1)."""
    if parameter.choice is not None:
        return parameter.choice[min(int(u * len(parameter.choice)), len(parameter.choice) - 1)]
    low, high = parameter.extremes()
    if parameter.randint:
        return min(low + int(u * (high - low + 1)), high)
    if parameter.loguniform:
        return min(max(low * (high / low) ** u, low), high)
    return low + u * (high - low)
