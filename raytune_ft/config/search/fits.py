"""Checks whether an algorithm can search a space in a study."""

from __future__ import annotations

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.overrides import value_at
from raytune_ft.config.files.problems import Place, at
from raytune_ft.config.objectives.custom_fits import custom_warnings
from raytune_ft.config.search.algorithms import CmaEs, Gp, Grid, Nsga2, Nsga3, Portfolio, QuasiRandom, RandomSearch
from raytune_ft.config.search.grid import MOST, lattice
from raytune_ft.config.search.portfolio import portfolio_warnings
from raytune_ft.config.search.search import Search
from raytune_ft.errors import InputError


def check_algorithm(experiment: Experiment, search: Search, place: Place) -> None:
    """Raises InputError if the algorithm can't handle the space, the metrics or the number of trials."""
    algorithm = search.proposer
    match algorithm:
        case Gp() | CmaEs():
            for key, parameter in search.space.parameters.items():
                if parameter.when:
                    where = f"{place(('search', 'space', 'parameters', key, 'when'))}: {key}.when"
                    what = f"{algorithm.type} models only settings that every trial has"
                    raise InputError(where, what, "use tpe, or remove it")
            if isinstance(algorithm, CmaEs):
                _check_cmaes(search, place)
        case Nsga2() | Nsga3():
            if search.trials <= algorithm.population_size and not search.warm_start:
                what = f"{search.trials} trials are one generation of {algorithm.population_size}, drawn at random"
                where = at(place, "search", "algorithm")
                raise InputError(where, what, f"raise search.trials, or lower {algorithm.type}'s population_size")
        case Grid(points=points):
            _check_grid(experiment, search, points, place)
        case _:
            pass


def search_warnings(experiment: Experiment) -> tuple[str, ...]:
    """Returns warnings on settings of the search that are valid but may not do what the user expects."""
    search, ignored = experiment.search, custom_warnings(experiment)
    if search is None:
        return ignored
    return (
        *ignored,
        *algorithm_warnings(search),
        *condition_warnings(experiment, search),
        *portfolio_warnings(experiment),
    )


def algorithm_warnings(search: Search) -> tuple[str, ...]:
    """Returns warnings on settings of the algorithm that are valid but may not do what the user expects."""
    warnings: list[str] = []
    drawn = [key for key, parameter in search.space.parameters.items() if len(parameter.choice or ()) > 1]
    if isinstance(search.proposer, CmaEs) and drawn:
        what = "cmaes moves only ranges; choices are drawn at random in every trial"
        warnings.append(f"search.algorithm: {what} ({', '.join(drawn)}); use tpe, or write numbers as a range")
    if isinstance(search.proposer, RandomSearch | QuasiRandom | Grid) and search.warm_start:
        what = f"{search.proposer.type} does not learn from trials; of earlier ones it only tries the best again"
        warnings.append(f"search.warm_start: {what}; use tpe")
    return tuple(warnings)


def condition_warnings(experiment: Experiment, search: Search) -> tuple[str, ...]:
    """Returns warnings on dimensions that no trial has, because their condition never holds."""
    fixed, space, warnings = experiment.model_dump(mode="json"), search.space.parameters, []
    for key, parameter in space.items():
        for on, value in (parameter.when or {}).items():
            searched, own = space.get(on), value_at(fixed, on)
            possible = (searched is not None and searched.holds(value)) or (
                (searched is None or bool(searched.when)) and own == value
            )
            if not possible:
                why = f"{on} is {own!r} in all trials" if searched is None else f"the space of {on} does not hold it"
                what = f"{key} is never searched: it needs {on} {value!r}, and {why}"
                warnings.append(f"search.space: {what}; change its when, or search {on}")
    return tuple(warnings)


def _check_cmaes(search: Search, place: Place) -> None:
    where = at(place, "search", "algorithm")
    if len(search.goals) > 1:
        names = ", ".join(goal.name for goal in search.goals)
        raise InputError(where, f"cmaes takes one metric, and there are {names}", "use nsga2, or one metric")
    if not any(len(set(parameter.bounds or ())) == 2 for parameter in search.space.parameters.values()):
        raise InputError(where, "cmaes moves only ranges, and the space has only choices", "use tpe")


def _check_grid(experiment: Experiment, search: Search, points: int, place: Place) -> None:
    number = len(lattice(search.space, points, experiment.model_dump(mode="json")))
    if number > MOST:
        where = at(place, "search", "algorithm")
        what = f"the grid has more than {MOST} configurations"
        raise InputError(where, what, "lower search.algorithm.points, or use quasi_random")
    first = len(search.space.start_from)
    if isinstance(search.algorithm, Portfolio):
        first += min(search.algorithm.first, len(search.algorithm.configurations))
    if search.trials > number + first:
        where = at(place, "search", "trials")
        what = f"{search.trials} trials, and the grid has {number} configurations"
        raise InputError(where, what, f"lower it to {number}, or raise search.algorithm.points")
