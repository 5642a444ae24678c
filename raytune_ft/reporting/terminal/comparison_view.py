"""Shows two runs side by side on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raytune_ft.reporting.comparison import RunComparison
from raytune_ft.reporting.html.so_far import Standing
from raytune_ft.reporting.wording import difference, goal_value, measure, number, one_line, outcome_words, short_names

_LONGEST = 60


def comparison_view(comparison: RunComparison) -> RenderableType:
    """Returns tables of both runs' results, settings and best values over time, and lines on how far to trust them."""
    parts: list[RenderableType] = [_results(comparison)]
    if comparison.settings:
        settings = _table(comparison, "settings that differ")
        for key, values in comparison.settings.items():
            settings.add_row(Text(key), *(Text(_shown(value)) for value in values))
        parts.append(settings)
    if comparison.at_tokens:
        parts.append(_way(comparison, "best so far after tokens", comparison.at_tokens, lambda at: f"{at:,.0f}"))
        parts.append(
            _way(comparison, "best so far after hours of training", comparison.at_hours, lambda at: f"{at:.3g}")
        )
    return Group(*parts, *_trust(comparison))


def _results(comparison: RunComparison) -> Table:
    one, other = comparison.first, comparison.second
    table = _table(comparison, "")

    def line(name: str, left: Any, right: Any) -> None:
        table.add_row(Text(one_line(name)), *(Text(one_line(number(value))) for value in (left, right)))

    line("base model", one.base_model, other.base_model)
    line("trials", sum(one.outcomes.values()), sum(other.outcomes.values()))
    for outcome in dict.fromkeys([*one.outcomes, *other.outcomes]):
        line(f"  {outcome_words(outcome)}", one.outcomes.get(outcome, 0), other.outcomes.get(outcome, 0))
    line("tokens", f"{one.tokens:,}", f"{other.tokens:,}")
    line("hours of training", one.hours, other.hours)
    line(f"best {one.metric}", one.best, other.best)
    line("tokens until within 1 % of the better best", *map(_tokens, comparison.tokens_to_best))
    if one.rule or other.rule:
        line("on the front", one.front, other.front)
    line("winner", one.winner, other.winner)
    for goal in dict.fromkeys([*one.values, *other.values]):
        line(f"  {goal}", *(goal_value(goal, each.values.get(goal)) for each in (one, other)))
    for key, name in short_names([*one.parameters, *other.parameters]).items():
        line(f"  {name}", one.parameters.get(key), other.parameters.get(key))
    for metric in dict.fromkeys([*one.test, *other.test]):
        if metric != "seconds":
            line(f"test {metric}", one.test.get(metric), other.test.get(metric))
    line("data", _start(one.fingerprint), _start(other.fingerprint))
    return table


def _way(comparison: RunComparison, title: str, standings: Iterable[Standing], words: Any) -> Table:
    table = _table(comparison, title)
    for standing in standings:
        table.add_row(Text(words(standing.at)), measure(standing.first), measure(standing.second))
    return table


def _trust(comparison: RunComparison) -> Iterator[Text]:
    for doubt in comparison.warnings:
        yield Text(doubt, style="bold yellow")
    if comparison.warnings:
        return
    yield Text("same data: the numbers can be compared")
    for metric, gain in comparison.first.gain.items():
        if (other := comparison.second.gain.get(metric)) is None:
            continue
        apart = gain.low > other.high or other.low > gain.high
        verdict = "apart" if apart else "they overlap, so neither is shown to be better"
        shown = " against ".join(
            f"{difference(each.mean)} [{difference(each.low)}, {difference(each.high)}]" for each in (gain, other)
        )
        yield Text(f"test {metric}, winner minus base: {shown}: {verdict}")
    yield Text("one search each: another seed may turn a small difference around")


def _table(comparison: RunComparison, title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(title)
    for summary in (comparison.first, comparison.second):
        table.add_column(Text(one_line(summary.run)), justify="right", overflow="fold")
    return table


def _shown(value: Any) -> str:
    text = one_line(number(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _tokens(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _start(fingerprint: str | None) -> str | None:
    return fingerprint[:12] if fingerprint else None
