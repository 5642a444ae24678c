"""Loads an experiment file to the frozen experiment, and reports the lines that are wrong in it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.overrides import METHOD, parse_assignments, with_settings
from raytune_ft.config.files.problems import KeyPath, always, input_error
from raytune_ft.config.files.shipped import find
from raytune_ft.config.files.yaml import Document, read_yaml
from raytune_ft.config.methods.choice import DEFAULT, METHODS
from raytune_ft.config.methods.fits import check_method
from raytune_ft.config.objectives.fits import check_objective
from raytune_ft.config.recorded import in_todays_words
from raytune_ft.config.search.fits import check_algorithm
from raytune_ft.config.search.metrics_fit import check_metrics
from raytune_ft.config.search.portfolio import check_portfolio, put_in
from raytune_ft.config.search.scheduler_fit import check_scheduler
from raytune_ft.config.search.search import SearchSpace
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory

PER_TRIAL = ("train", "method", "resources", "seed")
"""Sections that may differ between trials, beside the objective's own `searched`; data is tokenised once per study, and
the rest belongs to the study."""

MEASURING = {
    "train.per_device_eval_batch_size": "is how eval_loss is computed, not what it is of",
    "train.eval_steps": "decides how often a trial is measured, and the best of many measures is the luckiest",
    "train.divergence_factor": "decides when a trial counts as diverged",
}
"""Settings that affect only the evaluation of a trial, not its training, with the reason."""


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Reads, completes and checks an experiment file.

    Args:
        path: The YAML file. Paths inside it are relative to the working directory.
        overrides: Overrides of the form `key.path=value`, as for `--set`.

    Raises:
        InputError: Something is wrong; it has one line for each problem: `file:line: key.path: what; remedy`.
    """
    return _load(read_yaml(Path(path)), overrides)


def load_recorded(run: RunDirectory, overrides: Sequence[str] = ()) -> Experiment:
    """Loads the experiment of a run, which any version may have written; raises InputError as `load_experiment`."""
    document = read_yaml(run.experiment)
    return _load(replace(document, value=in_todays_words(document.value)), overrides)


def _load(document: Document, overrides: Sequence[str]) -> Experiment:
    settings = parse_assignments(overrides)
    try:
        values = with_settings(document.value, settings)
    except InputError as error:
        raise InputError(f"--set {error.where}", error.what, error.remedy) from None
    space_document = _read_space(values, _Places(document, None, frozenset(settings)))
    put_in(values, _Places(document, None, frozenset(settings)))
    place = _Places(document, space_document, frozenset(settings))
    try:
        experiment = Experiment.model_validate(values)
    except ValidationError as error:
        raise input_error(error, Experiment, place) from None
    check_space(experiment, values, place)
    check_objective(experiment, place)
    check_method(experiment, place)
    if experiment.search is not None:
        check_metrics(experiment, experiment.search, place)
        check_algorithm(experiment, experiment.search, place)
        check_scheduler(experiment, experiment.search, place)
        check_portfolio(experiment, values, place)
    return experiment


def with_parameters(experiment: Experiment, parameters: Mapping[str, Any]) -> Experiment:
    """Returns the experiment of one trial, with `parameters` (key path -> value) filled in and validated."""
    values = with_settings(experiment.model_dump(mode="json"), parameters)
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise input_error(error, Experiment, lambda path: "") from None


def check_space(experiment: Experiment, values: Mapping[str, Any], place: _Places) -> None:
    """Validates each parameter's extremes, and each starting point, with the experiment's own models.

    Raises:
        InputError: The models refuse a key or value, or a setting can't differ between the trials of a study.
    """
    if experiment.search is None:
        return
    space = experiment.search.space
    path: KeyPath
    for key in space.parameters:
        if key in PER_TRIAL and key != "seed":
            path = ("search", "space", "parameters", key)
            raise InputError(place(path), f"{key} is a section, which can't be searched", "search its settings")
        if key in MEASURING:
            path = ("search", "space", "parameters", key)
            what = f"{key} {MEASURING[key]}, so trials that differ in it can't be compared"
            raise InputError(place(path), what, f"remove it, and set {key} for all trials")
        section, _, setting = key.partition(".")
        searched = section == "objective" and setting.partition(".")[0] in experiment.objective.searched
        if section in Experiment.model_fields and section not in PER_TRIAL and not searched:
            path = ("search", "space", "parameters", key)
            what = f"{key} is the same for all trials of a study, so it can't be searched"
            if section == "objective" and setting.partition(".")[0] not in type(experiment.objective).model_fields:
                what = f"{key} is no setting of objective {experiment.objective.type}"
            own = [f"objective.{each}" for each in experiment.objective.searched]
            raise InputError(place(path), what, f"search settings of {', '.join([*PER_TRIAL, *own])}")
    _check_methods(space, place)
    _check_types(space, place)
    for index, start in enumerate(space.start_from):
        for key, value in start.items():
            path = ("search", "space", "start_from", index, key)
            if key not in space.parameters:
                raise InputError(place(path), f"start_from sets {key}, which the space does not search", "remove it")
            if not space.parameters[key].holds(value):
                what = f"start_from sets {key} to {value!r}, which the space does not hold"
                raise InputError(place(path), what, "change it, or widen the space")
    candidates: list[tuple[KeyPath, Mapping[str, Any]]] = [
        (("search", "space", "parameters", key), {**(parameter.when or {}), key: value})
        for key, parameter in space.parameters.items()
        for value in parameter.extremes()
    ]
    candidates += [(("search", "space", "start_from", index), start) for index, start in enumerate(space.start_from)]
    for path, settings in candidates:
        try:
            Experiment.model_validate(with_settings(values, settings))
        except InputError as error:
            raise InputError(f"{place(path)}: {error.where}", error.what, error.remedy) from None
        except ValidationError as error:
            raise input_error(error, Experiment, always(place(path))) from None


def _check_methods(space: SearchSpace, place: _Places) -> None:
    """Where the method is searched, its settings have to say which one they belong to."""
    for key, parameter in space.parameters.items() if METHOD in space.parameters else ():
        if key.startswith("method.") and key != METHOD and METHOD not in (parameter.when or {}):
            path: KeyPath = ("search", "space", "parameters", key)
            what = f"{key} belongs to one method, and {METHOD} is searched"
            having = [name for name, method in METHODS.items() if key.partition(".")[2] in method.model_fields]
            raise InputError(place(path), what, f"add when: {{{METHOD}: {having[0] if having else DEFAULT}}}")


def _check_types(space: SearchSpace, place: _Places) -> None:
    """Refuses the dtype `auto` in a space, because it is decided once for a study."""
    searched = space.parameters.get("train.dtype")
    if searched is not None and "auto" in searched.extremes():
        path: KeyPath = ("search", "space", "parameters", "train.dtype")
        raise InputError(place(path), "auto is decided once for all trials", "name the types, or leave train.dtype out")


class _Places:
    """Returns where a key path was written: a line of the experiment file or of its space file, or `--set`."""

    def __init__(self, document: Document, space: Document | None, overridden: frozenset[str]) -> None:
        self._document, self._space, self._overridden = document, space, overridden

    def __call__(self, path: KeyPath) -> str:
        dotted = ".".join(str(part) for part in path)
        # Problems with a section's type are reported for the section.
        if any(key in (dotted, f"{dotted}.type") or dotted.startswith(f"{key}.") for key in self._overridden):
            return "--set"
        if self._space is not None and path[:2] == ("search", "space"):
            return self._space.place(path[2:])
        return self._document.place(path)


def _read_space(values: dict[str, Any], place: _Places) -> Document | None:
    """Replaces the name of the space's file by its content."""
    search = values.get("search")
    if not isinstance(search, dict) or not isinstance(search.get("space"), str):
        return None
    path = find(search["space"])
    if not os.path.isfile(path):  # unlike Path.is_file, it accepts too long a name
        where = f"{place(('search', 'space'))}: search.space"
        raise InputError(where, f"no file {path}", "give a file of search_spaces/, or write the space inline")
    space = read_yaml(path)
    try:
        SearchSpace.model_validate(space.value)
    except ValidationError as error:
        raise input_error(error, SearchSpace, space.place) from None
    search["space"] = space.value
    return space
