"""Shows an adapter's versions under live traffic side by side on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raytune_ft.reporting.live_requests import Asked, LiveComparison, Rate, Spread, VersionTraffic
from raytune_ft.reporting.wording import number


def live_view(found: LiveComparison) -> RenderableType:
    """Returns a table with a column for each version, and lines on whether their error rates differ."""
    if found.first is None:
        return Text(f"{found.adapter}: no request since {found.since or 'the log began'}")
    table = Table(title=f"{found.adapter}, {found.first} to {found.last}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for version in found.versions:
        aliases = " ".join(alias for alias in version.aliases if alias != "previous") or " ".join(version.aliases)
        table.add_column(f"@{version.version} {aliases}".strip(), justify="right")

    def line(name: str, cell: Callable[[VersionTraffic], str]) -> None:
        table.add_row(name, *(cell(version) for version in found.versions))

    def lines(name: str, asked: Callable[[VersionTraffic], Asked]) -> None:
        line(name, lambda version: str(asked(version).requests))
        line("  errors", lambda version: _rate(asked(version).errors))
        line("  refused or left", lambda version: str(asked(version).refused))
        line("  TTFT p50, p95 (ms)", lambda version: _spread(asked(version).ttft))
        line("  total p50, p95 (ms)", lambda version: _spread(asked(version).total))
        line("  tokens in, out", lambda version: _tokens(asked(version)))

    line("share of requests to the name", lambda version: _percent(version.by_name.share))
    lines("requests", lambda version: version.answered)
    if any(version.shadow.requests for version in found.versions):
        lines("asked in the shadow", lambda version: version.shadow)
        line("  same text as the champion", lambda version: _rate(version.shadow.agrees))
    return Group(table, *_verdicts(found))


def _verdicts(found: LiveComparison) -> Iterator[Text]:
    if found.unanswered:
        yield Text(f"{found.unanswered} requests ended before a version was chosen")
    by_alias = {alias: version for version in found.versions for alias in version.aliases}
    champion, challenger = by_alias.get("champion"), by_alias.get("challenger")
    if champion is None or challenger is None or champion is challenger:
        return
    new = challenger.answered if challenger.answered.requests else challenger.shadow
    old = champion.answered
    if not new.requests or not old.requests:
        yield Text("one of the two has no requests yet: nothing to compare")
    elif new.errors.low > old.errors.high:
        yield Text("the challenger fails more often: the intervals are apart", style="bold yellow")
    elif new.errors.high < old.errors.low:
        yield Text("the challenger fails less often: the intervals are apart")
    else:
        yield Text("errors: the intervals overlap, so no difference is shown")


def _rate(value: Rate) -> str:
    """Formats a rate, e.g. `3 (1.2 %, 0.4 to 3.4)`."""
    if value.share is None:
        return "-"
    return f"{value.count} ({_percent(value.share)}, {value.low * 100:.1f} to {value.high * 100:.1f})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f} %"


def _spread(value: Spread) -> str:
    if value.p50_ms is None or value.p95_ms is None:
        return "-"
    return f"{_ms(value.p50_ms)}, {_ms(value.p95_ms)}"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else number(float(value), 3)


def _tokens(asked: Asked) -> str:
    return f"{asked.prompt_tokens:,}, {asked.completion_tokens:,}" if asked.requests else "-"
