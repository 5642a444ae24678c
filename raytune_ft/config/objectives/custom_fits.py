"""Checks of `objective: {type: custom}`: whether the file has such a function, and what it would not be told."""

from __future__ import annotations

import ast
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.problems import Place, at
from raytune_ft.config.filled_in import NONE
from raytune_ft.config.methods.lora import Lora
from raytune_ft.config.objectives.custom import Custom
from raytune_ft.config.search.schedulers import PAUSING
from raytune_ft.config.training import Ddp
from raytune_ft.errors import InputError

_TOLD = ("train.max_steps", "train.eval_steps", "resources", "seed", "objective.settings")
"""What a custom trainer is told; other settings would be searched for nothing."""
_SIGNATURE = "write it as train(settings, data, report, checkpoint)"


def check_custom(experiment: Experiment, place: Place) -> None:
    """Raises InputError if the trainer can't be called, its data is missing, or a setting would change nothing."""
    objective = experiment.objective
    assert isinstance(objective, Custom)
    _check_trainer(objective, place)
    if experiment.search is not None:
        _check_search(experiment, objective, place)
    for name in ("train", "validation", "test"):
        path = getattr(experiment.data, name)
        if isinstance(path, str) and path and not _is_file(Path(path)):
            raise InputError(at(place, "data", name), f"no file {path}", "paths are relative to the working directory")


def custom_warnings(experiment: Experiment) -> tuple[str, ...]:
    """Returns warnings on sections that were written and that a custom trainer is not told."""
    if not isinstance(experiment.objective, Custom):
        return ()
    written = {
        "method": experiment.method != Lora(),
        "resources.strategy": experiment.resources.strategy != Ddp(),
        "base_model": experiment.base_model != NONE,
    }
    return tuple(f"{key}: a custom trainer is not told; leave it out" for key, there in written.items() if there)


def _check_search(experiment: Experiment, objective: Custom, place: Place) -> None:
    search = experiment.search
    assert search is not None
    for key in search.space.parameters:
        where = f"{place(('search', 'space', 'parameters', key))}: {key}"
        if not any(key == known or key.startswith(f"{known}.") for known in _TOLD):
            what = "is not told to a custom trainer, so searching it would change nothing"
            raise InputError(where, what, "search objective.settings.NAME instead")
        if key.startswith("objective.settings."):
            name = key.split(".")[2]
            if name not in objective.settings:
                known = ", ".join(objective.settings) or "none"
                what = f"objective.settings has no {name!r}; it has {known}"
                raise InputError(where, what, "correct it, or add it there with a default")
    if search.scheduler.type in PAUSING:
        what = f"{search.scheduler.type} pauses trials, which a custom trainer's can't"
        raise InputError(at(place, "search", "scheduler"), what, "use asha, median or none")
    if search.budget.tokens is not None:
        what = "counts tokens, and a custom trainer reports none"
        raise InputError(at(place, "search", "budget", "tokens"), what, "use hours or device_hours")


def _check_trainer(objective: Custom, place: Place) -> None:
    where, file = at(place, "objective", "trainer"), Path(objective.file)
    if not _is_file(file):
        raise InputError(where, f"no file {str(file)[:200]}", "paths are relative to the working directory")
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except OSError as error:
        raise InputError(
            where, f"{file} can't be read: {error.strerror}", "give a file that this user may read"
        ) from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        shown = str(error) or type(error).__name__
        raise InputError(where, f"{file} is not Python ({shown})", "mend it") from None
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == objective.function]
    if not functions:
        raise InputError(where, f"{file} has no function {objective.function}", "name one that it defines at its top")
    arguments = functions[-1].args
    taken = len(arguments.posonlyargs + arguments.args)
    required = taken - len(arguments.defaults)
    if (taken < 4 and arguments.vararg is None) or required > 4:
        raise InputError(where, f"{objective.function} takes {taken if taken < 4 else required} arguments", _SIGNATURE)
    if needed := [arg.arg for arg, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if not value]:
        raise InputError(where, f"{objective.function} needs the keyword {needed[0]}, which nobody gives", _SIGNATURE)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False
