"""Shows as a table why trials ended, for a sweep that nothing won."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.table import Table
from rich.text import Text

from raytune_ft.reporting.terminal.leaderboard import outcome_text
from raytune_ft.reporting.wording import one_line
from raytune_ft.search.results.causes import Cause


def causes_table(causes: Iterable[Cause]) -> Table:
    """Returns a table with a row for each cause: how many trials it ended, and one of them to look into."""
    table = Table(box=box.SIMPLE_HEAD, title="why trials ended", title_justify="left")
    table.add_column("outcome", no_wrap=True)
    table.add_column("trials", justify="right", no_wrap=True)
    table.add_column("such as", no_wrap=True)
    table.add_column("cause", overflow="fold")
    for cause in causes:
        reason = Text(one_line(cause.reason))
        table.add_row(outcome_text(cause.outcome), str(len(cause.trials)), cause.trials[0], reason)
    return table
