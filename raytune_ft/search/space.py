"""The search space as Optuna reads it: define-by-run, so that conditions keep their meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raytune_ft.config.overrides import value_at
from raytune_ft.config.search import Parameter, SearchSpace

if TYPE_CHECKING:
    import optuna


def suggest(trial: optuna.Trial, space: SearchSpace, defaults: dict[str, Any]) -> dict[str, Any]:
    """One configuration of `space`: key path -> value. `defaults` are the experiment's values, for conditions."""
    chosen: dict[str, Any] = {}
    waiting = dict(space.parameters)
    while waiting:
        ready = [key for key, parameter in waiting.items() if not set(parameter.when or {}) & set(waiting)]
        for key in ready or list(waiting):
            parameter = waiting.pop(key)
            if all(chosen.get(on, value_at(defaults, on)) == value for on, value in (parameter.when or {}).items()):
                chosen[key] = _draw(trial, key, parameter)
    return chosen


def _draw(trial: optuna.Trial, key: str, parameter: Parameter) -> Any:
    if parameter.loguniform:
        return trial.suggest_float(key, *parameter.loguniform, log=True)
    if parameter.uniform:
        return trial.suggest_float(key, *parameter.uniform)
    if parameter.randint:
        return trial.suggest_int(key, *parameter.randint)
    return trial.suggest_categorical(key, parameter.choice or [])
