"""Compares two runs, and says whether their numbers may be compared at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from raytune_ft.config.files.overrides import flat
from raytune_ft.config.recorded import in_todays_words
from raytune_ft.metrics.named import Goal, sign
from raytune_ft.paths import RunDirectory
from raytune_ft.reporting.html.so_far import SoFar, Standing, best_so_far, standings, tokens_to
from raytune_ft.reporting.read import read_data_facts, read_evaluation, read_leaderboard, read_trials, read_winner
from raytune_ft.reporting.records import Interval

_NAMES = ("name", "output_dir", "registry.path", "registry.adapter")


@dataclass(frozen=True)
class RunSummary:
    """One run's result in a few values; values that the run has no file for are None or empty."""

    run: str
    experiment: str
    metric: str
    base_model: str | None
    best: float | None
    winner: str | None
    parameters: Mapping[str, Any]
    outcomes: Mapping[str, int]
    test: Mapping[str, float]
    fingerprint: str | None
    tokens: int = 0
    """Tokens trained by all trials together."""
    hours: float = 0.0
    """Hours of training of all trials together."""
    gain: Mapping[str, Interval] = field(default_factory=dict)
    """Metric -> winner minus base on the test split."""
    values: Mapping[str, float] = field(default_factory=dict)
    """The winner's values, goal -> value, if there are several goals."""
    rule: str = ""
    """The rule by which it won, in words, if there are several goals."""
    front: int | None = None
    """How many trials are on the Pareto front, if there are several goals."""


@dataclass(frozen=True)
class RunComparison:
    """Two runs side by side, with warnings where their numbers can't be compared."""

    first: RunSummary
    second: RunSummary
    same_data: bool
    warnings: tuple[str, ...]
    settings: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """The settings that differ: key path -> both values."""
    at_tokens: tuple[Standing, ...] = ()
    """The best values so far after the same numbers of tokens."""
    at_hours: tuple[Standing, ...] = ()
    """The best values so far after the same hours of training."""
    tokens_to_best: tuple[int | None, int | None] = (None, None)
    """Tokens until each run came within 1 % of the better run's best value."""


def compare_runs(first: RunDirectory, second: RunDirectory) -> RunComparison:
    """Summarises both runs; raises InputError where one has no leaderboard yet."""
    goal = read_leaderboard(first).leading
    curves = best_so_far(read_trials(first), goal), best_so_far(read_trials(second), goal)
    one, other = _summary(first, curves[0]), _summary(second, curves[1])
    settings = differing_settings(first, second)
    bests = tuple([point.best for point in curve] for curve in curves)
    tokens = [[float(point.tokens) for point in curve] for curve in curves]
    hours = [[point.hours for point in curve] for curve in curves]
    known = [best for values in bests for best in values[-1:] if math.isfinite(best)]
    same = one.fingerprint is not None and one.fingerprint == other.fingerprint
    return RunComparison(
        one,
        other,
        same,
        doubts(one, other, settings),
        settings,
        tuple(standings(tokens[0], tokens[1], bests)),
        tuple(standings(hours[0], hours[1], bests)),
        _tokens_to_best(curves, known, goal),
    )


def _tokens_to_best(
    curves: tuple[tuple[SoFar, ...], tuple[SoFar, ...]], bests: Sequence[float], goal: Goal
) -> tuple[int | None, int | None]:
    if not bests:
        return None, None
    best = min(bests, key=lambda value: sign(goal) * value)
    return tokens_to(curves[0], best, goal), tokens_to(curves[1], best, goal)


def doubts(one: RunSummary, other: RunSummary, settings: Mapping[str, tuple[Any, Any]]) -> tuple[str, ...]:
    """Returns why the numbers of two runs can't be compared, as lines for a person; empty where they can."""
    found = []
    if one.fingerprint is None or other.fingerprint is None:
        found.append("a run without data/manifest.json: whether both saw the same data is unknown")
    elif one.fingerprint != other.fingerprint:
        found.append("the data fingerprints differ: these numbers can't be compared")
    if one.metric != other.metric:
        found.append(f"judged by {one.metric} and by {other.metric}: the best values can't be compared")
    elif one.rule != other.rule:
        ways = " and by ".join(each.rule or f"the least {each.metric}" for each in (one, other))
        found.append(f"won by {ways}: the winners can't be compared, the best {one.metric} can")
    if "base_model" in settings:
        found.append("the base models differ: losses are per token of each one's own tokenizer")
    return tuple(found)


def differing_settings(first: RunDirectory, second: RunDirectory) -> dict[str, tuple[Any, Any]]:
    """Returns the settings that differ between the resolved experiments, key path -> both values, but for names."""
    one, other = (
        flat(in_todays_words(yaml.safe_load(run.experiment.read_text(encoding="utf-8")))) for run in (first, second)
    )
    keys = [key for key in dict.fromkeys([*one, *other]) if key not in _NAMES and one.get(key) != other.get(key)]
    return {key: (one.get(key), other.get(key)) for key in keys}


def _summary(run: RunDirectory, curve: tuple[SoFar, ...]) -> RunSummary:
    board = read_leaderboard(run)
    winner = read_winner(run) if run.winner.is_file() else None
    facts = read_data_facts(run) if (run.data / "manifest.json").is_file() else None
    evaluation = read_evaluation(run) if run.evaluation.is_file() else None
    outcomes = [row.outcome for row in board.rows]
    values = [row.value for row in board.rows if row.value is not None]
    return RunSummary(
        run=str(run.root),
        experiment=board.experiment,
        metric=board.metric,
        base_model=winner.base_model if winner else None,
        best=min(values, key=lambda value: sign(board.leading) * value, default=None),
        winner=winner.trial if winner else None,
        parameters=winner.parameters if winner else {},
        outcomes={outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)},
        test=evaluation.systems.get("winner", {}) if evaluation else {},
        fingerprint=facts.fingerprint if facts else None,
        tokens=curve[-1].tokens if curve else 0,
        hours=curve[-1].hours if curve else 0.0,
        gain=evaluation.difference if evaluation else {},
        values=winner.values if winner and board.further else {},
        rule=board.rule if board.further else "",
        front=sum(row.front for row in board.rows) if board.further else None,
    )
