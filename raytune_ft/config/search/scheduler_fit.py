"""Checks whether a scheduler works with a space and an algorithm."""

from __future__ import annotations

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.problems import Place, at
from raytune_ft.config.search.schedulers import MUTABLE, Bohb, Hyperband, NoScheduler, Pb2, Pbt
from raytune_ft.config.search.search import STEPS, Search
from raytune_ft.errors import InputError

SHAPE = "train.lr_scheduler_type"
SAME_AT_ANY_LENGTH = ("constant", "constant_with_warmup")
"""Learning rate schedules whose value at a step does not depend on the trial's length."""
WITHOUT_MODEL = ("random", "quasi_random", "grid")


def check_scheduler(experiment: Experiment, search: Search, place: Place) -> None:
    """Raises InputError if the scheduler does not work with the space or the algorithm."""
    scheduler = search.scheduler
    if not isinstance(scheduler, NoScheduler | Hyperband | Bohb):
        _check_lengths(experiment, search, place)
    match scheduler:
        case Hyperband() | Bohb():
            if STEPS in search.space.parameters:
                where = f"{place(('search', 'space', 'parameters', STEPS))}: {STEPS}"
                what = f"{scheduler.type} compares trials at fractions of one number of steps, and this searches it"
                raise InputError(where, what, "remove it, or use asha")
            if isinstance(scheduler, Bohb) and search.proposer.type in WITHOUT_MODEL:
                where = at(place, "search", "scheduler")
                what = f"bohb lets a model propose, and algorithm {search.proposer.type} has none"
                raise InputError(where, what, "use scheduler hyperband, or algorithm tpe")
        case Pbt():
            if not mutable(search):
                raise InputError(
                    at(place, "search", "scheduler"),
                    _nothing("pbt"),
                    f"search one of {', '.join(MUTABLE)}, or use asha",
                )
        case Pb2():
            ranges = [key for key in mutable(search) if search.space.parameters[key].choice is None]
            if not ranges:
                remedy = f"search a range of one of {', '.join(MUTABLE)}, or use pbt"
                raise InputError(at(place, "search", "scheduler"), _nothing("pb2"), remedy)
            for key in ranges:
                parameter, where = search.space.parameters[key], place(("search", "space", "parameters", key))
                if parameter.when:
                    what = "pb2 models only settings that every trial has"
                    raise InputError(f"{where}: {key}.when", what, "use pbt, or remove it")
        case _:
            pass


def _check_lengths(experiment: Experiment, search: Search, place: Place) -> None:
    """Checks that trials of different lengths that are compared at a step had the same learning rate until then."""
    space = search.space.parameters
    if STEPS not in space:
        return
    shape = (space[STEPS].when or {}).get(SHAPE)
    searched = space.get(SHAPE)
    own = [experiment.train.lr_scheduler_type] if searched is None or searched.when else []
    possible = [shape] if shape else [*(searched.extremes() if searched else ()), *own]
    if decaying := [each for each in possible if each not in SAME_AT_ANY_LENGTH]:
        where = f"{place(('search', 'space', 'parameters', STEPS))}: {STEPS}"
        what = f"{search.scheduler.type} compares trials at one step, where {SHAPE} {' or '.join(decaying)} has come to"
        remedy = f"use {' or '.join(SAME_AT_ANY_LENGTH)}, or scheduler none, or remove it"
        raise InputError(where, f"{what} other rates in a shorter trial, and this searches their length", remedy)


def mutable(search: Search) -> list[str]:
    """Returns the searched settings that trials of a population may change while they train."""
    return [key for key in search.space.parameters if key in MUTABLE]


def _nothing(kind: str) -> str:
    where = "ranges" if kind == "pb2" else "settings"
    return f"{kind} changes {where} while trials train, and the space searches none that can"
