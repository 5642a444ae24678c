"""Formats the leaderboard, and the comparison of base and winner, as rich tables."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from raytune_ft.reporting.records import Evaluation, Leaderboard
from raytune_ft.reporting.wording import (
    difference,
    duration,
    front_mark,
    goal_value,
    measure,
    number,
    one_line,
    outcome_words,
    parameter_names,
)

OUTCOME_STYLES = {
    "completed": "green",
    "pruned": "yellow",
    "diverged": "red",
    "out_of_memory": "red",
    "failed": "red",
    "running": "cyan",
}


def leaderboard_table(leaderboard: Leaderboard) -> Table:
    """Returns the table: rank, trial, outcome, value, step, time, and a column for each searched parameter.

    With several goals it also has the other goals' values, says which trials are on the Pareto front, and names below
    the rule by which the first one won.
    """
    names = parameter_names(row.parameters for row in leaderboard.rows)
    goals = leaderboard.further
    caption = f"winner: {leaderboard.rule}\nfront: no other trial is as good in every goal and better in one"
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{leaderboard.experiment}: leaderboard",
        title_justify="left",
        caption=caption if goals else None,
        caption_justify="left",
    )
    further = (*(goal.name for goal in goals), *(["front"] if goals else []))
    for header in ("rank", "trial", "outcome", leaderboard.metric, *further, "step", "time"):
        table.add_column(header, justify="left" if header in ("trial", "outcome") else "right", no_wrap=True)
    for name in names.values():  # these columns fold on a narrow terminal
        table.add_column(name.removeprefix("per_device_"), justify="right", overflow="fold")
    for row in leaderboard.rows:
        values = (number(row.parameters.get(key), 3) for key in names)
        table.add_row(
            number(row.rank),
            Text(one_line(row.trial)),
            outcome_text(row.outcome),
            measure(row.value),
            *(goal_value(goal.name, row.values.get(goal.name)) for goal in goals),
            *([front_mark(row.front)] if goals else []),
            number(row.step),
            duration(row.seconds),
            *(Text(one_line(value)) for value in values),
            style="bold" if row.rank == 1 else None,
        )
    return table


def comparison_table(evaluation: Evaluation) -> Table:
    """Returns a table of metrics: base, winner, and their difference with its interval."""
    levels = {interval.level for interval in evaluation.difference.values()}
    level = f"{100 * levels.pop():g} % interval" if len(levels) == 1 else "interval"
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"base against winner, {evaluation.rows} rows of {evaluation.split}",
        title_justify="left",
        caption=evaluation.few(),
        caption_justify="left",
    )
    table.add_column("metric")
    for header in ("base", "winner", "difference", level):
        table.add_column(header, justify="right")
    base, winner = (evaluation.systems.get(system, {}) for system in ("base", "winner"))
    for metric in evaluation.metrics:
        gap = evaluation.difference.get(metric)
        table.add_row(
            metric,
            measure(base.get(metric)),
            measure(winner.get(metric)),
            difference(gap.mean) if gap else "-",
            f"{difference(gap.low)} to {difference(gap.high)}" if gap else "-",
        )
    return table


def outcome_text(outcome: str) -> Text:
    """Returns an outcome in its colour."""
    return Text(outcome_words(one_line(outcome)), style=OUTCOME_STYLES.get(outcome, ""))
