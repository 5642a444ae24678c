"""Samples the search space with Optuna's define-by-run interface, so that conditions keep their meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raytune_ft.config.search.search import Parameter, SearchSpace

if TYPE_CHECKING:
    import optuna


def suggest(trial: optuna.Trial, space: SearchSpace, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration of `space` (key path -> value) with values that `trial` suggests.

    Args:
        trial: The trial to configure.
        space: The search space.
        defaults: The experiment's values, which decide conditions on settings that are not searched.
    """
    chosen: dict[str, Any] = {}
    for key in space.in_order():
        if space.applies(key, chosen, defaults):
            chosen[key] = _draw(trial, key, space.parameters[key])
    return chosen


def _draw(trial: optuna.Trial, key: str, parameter: Parameter) -> Any:
    if parameter.loguniform:
        return trial.suggest_float(key, *parameter.loguniform, log=True)
    if parameter.uniform:
        return trial.suggest_float(key, *parameter.uniform)
    if parameter.randint:
        return trial.suggest_int(key, *parameter.randint)
    return trial.suggest_categorical(key, parameter.choice or [])
