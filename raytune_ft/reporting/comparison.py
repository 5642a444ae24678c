"""Two runs side by side, and whether their numbers may be compared at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raytune_ft.paths import RunDirectory
from raytune_ft.reporting.read import read_data_facts, read_evaluation, read_leaderboard, read_winner
from raytune_ft.reporting.wording import number, one_line, outcome_words, short_names


@dataclass(frozen=True)
class RunSummary:
    """One run's result in a few values; what was never written is None or empty."""

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


@dataclass(frozen=True)
class RunComparison:
    """Two runs, and what stands against comparing their numbers."""

    first: RunSummary
    second: RunSummary
    same_data: bool
    warnings: tuple[str, ...]


def compare_runs(first: RunDirectory, second: RunDirectory) -> RunComparison:
    """Summarises both runs; raises InputError where one has no leaderboard yet."""
    one, other = _summary(first), _summary(second)
    same = one.fingerprint is not None and one.fingerprint == other.fingerprint
    warnings = []
    if one.fingerprint is None or other.fingerprint is None:
        warnings.append("a run without data/manifest.json: whether both saw the same data is unknown")
    elif not same:
        warnings.append("the data fingerprints differ: these numbers can't be compared")
    if one.metric != other.metric:
        warnings.append(f"judged by {one.metric} and by {other.metric}: the best values can't be compared")
    return RunComparison(one, other, same, tuple(warnings))


def _summary(run: RunDirectory) -> RunSummary:
    board = read_leaderboard(run)
    winner = read_winner(run) if run.winner.is_file() else None
    facts = read_data_facts(run) if (run.data / "manifest.json").is_file() else None
    evaluation = read_evaluation(run) if run.evaluation.is_file() else None
    outcomes = [row.outcome for row in board.rows]
    return RunSummary(
        run=str(run.root),
        experiment=board.experiment,
        metric=board.metric,
        base_model=winner.base_model if winner else None,
        best=winner.value if winner else None,
        winner=winner.trial if winner else None,
        parameters=winner.parameters if winner else {},
        outcomes={outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)},
        test=evaluation.systems.get("winner", {}) if evaluation else {},
        fingerprint=facts.fingerprint if facts else None,
    )


def comparison_view(comparison: RunComparison) -> RenderableType:
    """Both runs as columns, the warnings below."""
    one, other = comparison.first, comparison.second
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for summary in (one, other):
        table.add_column(Text(one_line(summary.run)), justify="right", overflow="fold")

    def line(name: str, left: Any, right: Any) -> None:
        table.add_row(Text(one_line(name)), *(Text(one_line(number(value))) for value in (left, right)))

    line("base model", one.base_model, other.base_model)
    line("trials", sum(one.outcomes.values()), sum(other.outcomes.values()))
    for outcome in dict.fromkeys([*one.outcomes, *other.outcomes]):
        line(f"  {outcome_words(outcome)}", one.outcomes.get(outcome, 0), other.outcomes.get(outcome, 0))
    line(f"best {one.metric}", one.best, other.best)
    line("winner", one.winner, other.winner)
    for key, name in short_names([*one.parameters, *other.parameters]).items():
        line(f"  {name}", one.parameters.get(key), other.parameters.get(key))
    for metric in dict.fromkeys([*one.test, *other.test]):
        if metric != "seconds":
            line(f"test {metric}", one.test.get(metric), other.test.get(metric))
    line("data", _start(one.fingerprint), _start(other.fingerprint))
    verdict = [Text(warning, style="bold yellow") for warning in comparison.warnings]
    return Group(table, *(verdict or [Text("same data: the numbers can be compared")]))


def _start(fingerprint: str | None) -> str | None:
    return fingerprint[:12] if fingerprint else None
