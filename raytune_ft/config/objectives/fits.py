"""Checks whether data, metrics and search fit the objective."""

from __future__ import annotations

import ast
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.problems import KeyPath, Place
from raytune_ft.config.objectives.custom import Custom
from raytune_ft.errors import InputError

_READ_BY_CUSTOM = ("train.max_steps", "train.eval_steps", "resources", "seed", "objective.settings")
"""What a custom trainer is told; other settings would be searched for nothing."""


def check_objective(experiment: Experiment, place: Place) -> None:
    """Raises InputError where the objective does not take the rows or the metrics, or would not read a setting."""
    objective = experiment.objective
    if isinstance(objective, Custom):
        _check_custom(experiment, objective, place)
        return
    given, taken = experiment.data.format, objective.rows
    if given.rows != taken:
        fitting = " or ".join(each for each in type(given) if each.rows == taken)
        wanted = _WORDS[taken] if taken else "none"
        what = f"{given} has rows with {_WORDS[given.rows]}, and objective {objective.type} takes rows with {wanted}"
        raise InputError(_at(place, "data", "format"), what, f"use {fitting}, or another objective.type")
    for metric in experiment.evaluate.metrics:
        if metric not in objective.row_metrics:
            what = f"{metric} can't be made of the rows of objective {objective.type}"
            raise InputError(_at(place, "evaluate", "metrics"), what, f"use {', '.join(objective.row_metrics)}")


_WORDS = {"answer": "one answer", "preference": "a chosen and a rejected answer"}


def _check_custom(experiment: Experiment, objective: Custom, place: Place) -> None:
    where, file = _at(place, "objective", "trainer"), Path(objective.file)
    if not file.is_file():
        raise InputError(where, f"no file {file}", "paths are relative to the working directory")
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise InputError(where, f"{file} is not Python ({error})", "mend it") from None
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == objective.function]
    if not functions:
        raise InputError(where, f"{file} has no function {objective.function}", "name one that it defines at its top")
    arguments = functions[-1].args
    taken = len(arguments.posonlyargs + arguments.args)
    if taken < 4 and arguments.vararg is None:
        what = f"{objective.function} takes {taken} arguments"
        raise InputError(where, what, "write it as train(settings, data, report, checkpoint)")
    for key in experiment.search.space.parameters if experiment.search else ():
        if not any(key == known or key.startswith(f"{known}.") for known in _READ_BY_CUSTOM):
            what = f"{key} is not told to a custom trainer, so searching it would change nothing"
            at = f"{place(('search', 'space', 'parameters', key))}: {key}"
            raise InputError(at, what, "search objective.settings.NAME instead")


def _at(place: Place, *path: str) -> str:
    keys: KeyPath = path
    return f"{place(keys)}: {'.'.join(path)}"
