"""Checks whether a search can go by its metrics: whether the objective reports them, and which of them may lead."""

from __future__ import annotations

import difflib

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.problems import KeyPath, Place, at
from raytune_ft.config.search.search import Search
from raytune_ft.errors import InputError
from raytune_ft.metrics.named import OF_ANY_TRIAL, OF_TRIALS, SPENT


def check_metrics(experiment: Experiment, search: Search, place: Place) -> None:
    """Raises InputError if a metric is not reported, can't lead, has the wrong mode, or means several things."""
    objective, own = experiment.objective, {facts.name: facts for facts in experiment.objective.reports}
    known = own | {name: OF_TRIALS[name] for name in (SPENT if experiment.trains_on_rows else OF_ANY_TRIAL)}
    leading = [name for name, facts in own.items() if facts.leads]
    first = search.goals[0]
    for index, goal in enumerate(search.goals):
        path: KeyPath = ("search", "metrics", index, "name") if search.metrics else ("search", "metric")
        if goal.name not in known:
            near = difflib.get_close_matches(goal.name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"use one of: {', '.join(known)}"
            what = f"metric {goal.name!r} is not reported by trials of objective {objective.type}"
            raise InputError(at(place, *path), what, remedy)
    if not known[first.name].leads:
        what = f"{first.name} can't lead: only {' or '.join(leading)} tells of a trial before its end how good it is"
        path = ("search", "metrics") if search.metrics else ("search", "metric")
        remedy = f"put {' or '.join(leading)} first" if search.metrics else f"name it in metrics, after {leading[0]}"
        raise InputError(at(place, *path), what, remedy)
    if first.mode != known[first.name].direction:
        worst, right = ("greatest", "min") if first.mode == "max" else ("least", "max")
        path = ("search", "metrics") if search.metrics else ("search", "mode")
        use = f"use mode: {right}" if search.metrics else f"use {right}, or leave it out"
        what = f"{first.mode} would look for the {worst} {first.name}, the worst"
        raise InputError(at(place, *path), what, use)
    for goal in search.goals:
        for setting in objective.scales.get(goal.name, ()):
            key = f"objective.{setting}"
            if key in search.space.parameters:
                what = f"{goal.name} depends on {key}, so trials that differ in it can't be compared by it"
                others = " or ".join(name for name in leading if name not in objective.scales)
                where = at(place, "search", "space", "parameters", key)
                raise InputError(where, what, f"search for {others}, or set {key} for all trials")
