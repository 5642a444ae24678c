"""Reads a portfolio's file, and fits its configurations into a space."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, StrictFloat, StrictInt, ValidationError

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.overrides import value_at, with_settings
from raytune_ft.config.files.problems import Place, always, at, input_error
from raytune_ft.config.files.shipped import find
from raytune_ft.config.files.yaml import read_yaml
from raytune_ft.config.model import Strict
from raytune_ft.config.objectives.choice import DEFAULT as SFT
from raytune_ft.config.search.algorithms import Portfolio
from raytune_ft.config.search.goals import Mode
from raytune_ft.config.search.search import Parameter, Search, SearchSpace
from raytune_ft.errors import InputError

_PLACE = ("search", "algorithm")


class PortfolioStudy(Strict):
    """A study that the portfolio was built from."""

    study: str
    """The experiment's name."""
    data: str
    """The data set's name."""
    fingerprint: str
    """Fingerprint of the prepared data."""
    base: str
    """The base model: its directory's name, or its hub id."""
    max_steps: StrictInt
    """Steps of a full trial."""
    trials: StrictInt
    """Number of trials that ended."""
    completed: StrictInt
    """Number of these that ran to their last step."""


class Entry(Strict):
    """One configuration."""

    parameters: dict[str, Any] = Field(min_length=1)
    """Key path in the experiment -> value."""
    covered: StrictFloat | None = None
    """Mean over the data sets of the lowest regret among the configurations up to this one."""
    helped: str | None = None
    """The data set whose regret it lowered most; null for a reserve, when no regret was left to lower."""
    regret: dict[str, StrictFloat] = {}
    """Its own regret on each data set: 0 as the best trial of the studies on it, 1 as the median trial or worse."""


class PortfolioFile(Strict):
    """A file of `raytune-ft portfolio build`; one written by hand needs only `configurations` with `parameters`."""

    metric: str | None = None
    """The metric that was compared."""
    mode: Mode | None = None
    """Whether smaller (`min`) or larger (`max`) values are better."""
    objective: str = SFT
    """The objective of the studies; another one's best rates are others."""
    built: str | None = None
    """The date on which it was built."""
    studies: list[PortfolioStudy] = []
    """The studies that the configurations come from."""
    configurations: list[Entry] = Field(min_length=1)
    """The configurations in the order in which they are tried."""


@dataclass(frozen=True)
class Fitted:
    """A configuration fitted into a space, and the changes made for it, such as `method.r 64 -> 32`."""

    parameters: dict[str, Any]
    changes: tuple[str, ...]


def read_portfolio(path: Path) -> PortfolioFile:
    """Reads a portfolio; raises InputError with file and line."""
    document = read_yaml(path)
    try:
        return PortfolioFile.model_validate(document.value)
    except ValidationError as error:
        raise input_error(error, PortfolioFile, document.place) from None


def put_in(values: dict[str, Any], place: Place) -> None:
    """Copies the configurations of the file that `search.algorithm` names into `values`, so that a run records them."""
    search = values.get("search")
    algorithm = search.get("algorithm") if isinstance(search, dict) else None
    if not isinstance(algorithm, dict) or algorithm.get("type") != "portfolio" or algorithm.get("configurations"):
        return
    name = algorithm.get("file")
    if isinstance(name, str):
        path = find(name)
        if not os.path.isfile(path):
            where = at(place, *_PLACE, "file")
            raise InputError(where, f"no file {name}", "write one with raytune-ft portfolio build RUNS... --to FILE")
        portfolio = read_portfolio(path)
        algorithm["configurations"] = [entry.parameters for entry in portfolio.configurations]
        if portfolio.objective != SFT or "objective" in algorithm:  # the file knows best
            algorithm["objective"] = portfolio.objective


def fit(configuration: Mapping[str, Any], space: SearchSpace, own: Mapping[str, Any]) -> Fitted:
    """Fits a configuration into the space.

    Settings that the space does not search are left out, numbers beyond a range are clipped to it, and a value that is
    not among the choices is replaced by the nearest one (for positive numbers by their ratio).

    Args:
        configuration: Key path -> value.
        space: The search space; a setting that `configuration` lacks is left to the sampler.
        own: The experiment's values; leaving out a setting with the experiment's own value is not a change.
    """
    kept: dict[str, Any] = {}
    changes = []
    for key, value in configuration.items():
        parameter = space.parameters.get(key)
        if parameter is None:
            if value != (fixed := value_at(own, key)):
                changes.append(f"{key} {_shown(value)} -> {_shown(fixed)}")
            continue
        near = nearest(parameter, value)
        if near is not None:
            kept[key] = near
        if near != value:
            changes.append(f"{key} {_shown(value)} -> {'drawn' if near is None else _shown(near)}")
    return Fitted(kept, tuple(changes))


def nearest(parameter: Parameter, value: Any) -> Any:
    """Returns the value of the dimension that is nearest to `value`, or None if none can be compared."""
    if parameter.holds(value):
        return value
    if not is_number(value):
        return None
    if parameter.choice is None:
        low, high = parameter.extremes()
        return min(max(round(value) if parameter.randint else float(value), low), high)
    numbers = [choice for choice in parameter.choice if is_number(choice)]
    if value > 0 and all(number > 0 for number in numbers):
        return min(numbers, key=lambda number: abs(math.log(number / value)), default=None)
    return min(numbers, key=lambda number: abs(number - value), default=None)


def first_configurations(search: Search, own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the configurations to try first, without repeats: the space's starting points, then the portfolio's."""
    found = [dict(start) for start in search.space.start_from]
    if isinstance(search.algorithm, Portfolio):
        chosen = search.algorithm.configurations[: search.algorithm.first]
        found += [fit(configuration, search.space, own).parameters for configuration in chosen]
    return [each for index, each in enumerate(found) if each and each not in found[:index]][: search.trials]


def check_portfolio(experiment: Experiment, values: Mapping[str, Any], place: Place) -> None:
    """Raises InputError if a portfolio does not fit space, method or objective, or holds an invalid configuration."""
    search = experiment.search
    if search is None or not isinstance(search.algorithm, Portfolio):
        return
    where = at(place, *_PLACE)
    if search.algorithm.objective != experiment.objective.type:
        what = f"the portfolio is of objective {search.algorithm.objective}, and this is {experiment.objective.type}"
        raise InputError(where, what, "its rates are for another loss; leave it out, or build one of your own")
    known = {key for configuration in search.algorithm.configurations for key in configuration}
    if not known & search.space.parameters.keys():
        what = f"the portfolio knows {', '.join(sorted(known))}, none of which the space searches"
        raise InputError(where, what, "give another portfolio, or search those settings")
    own, space = experiment.model_dump(mode="json"), search.space.parameters
    foreign = {key for key in known if key.startswith("method.") and value_at(own, key) is None}
    if foreign and not foreign & space.keys():
        what = f"the portfolio sets {', '.join(sorted(foreign))}, which method {experiment.method.type} does not have"
        raise InputError(where, what, "its rates are for another method; leave it out, or build one of your own")
    for configuration in first_configurations(search, values)[len(search.space.start_from) :]:
        try:
            Experiment.model_validate(with_settings(values, configuration))
        except ValidationError as error:
            raise input_error(error, Experiment, always(f"{where}: {configuration}")) from None


def portfolio_warnings(experiment: Experiment) -> list[str]:
    """Returns warnings on how the portfolio fits the experiment."""
    search = experiment.search
    if search is None or not isinstance(search.algorithm, Portfolio):
        return []
    own = experiment.model_dump(mode="json")
    chosen = search.algorithm.configurations[: search.algorithm.first]
    changes = [changes for each in chosen if (changes := fit(each, search.space, own).changes)]
    said = []
    if changes:
        shown = "; ".join(", ".join(each) for each in changes[:3]) + ("; ..." if len(changes) > 3 else "")
        said.append(f"{len(changes)} of the portfolio's first {len(chosen)} configurations are moved ({shown})")
    if search.trials <= (count := len(first_configurations(search, own))):
        then = search.algorithm.then.type
        said.append(f"start_from and portfolio take all {count} trials, {then} proposes none; raise search.trials")
    return said


def is_number(value: Any) -> bool:
    """Tells whether a setting's value is a number, for which distances are defined."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
