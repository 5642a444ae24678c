"""The report's sections as HTML; everything that comes from a file is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from raytune_ft.evaluation.uses import Uses
from raytune_ft.metrics.named import task_metrics
from raytune_ft.reporting.html.importance import Importances
from raytune_ft.reporting.html.plots import NEUTRAL, OUTCOME_COLOURS
from raytune_ft.reporting.plan_truth import Line, amount, span_words, verdict
from raytune_ft.reporting.records import DataFacts, Evaluation, Leaderboard, Winner
from raytune_ft.reporting.wording import (
    OUTCOMES,
    difference,
    duration,
    front_mark,
    goal_value,
    goals_in_words,
    measure,
    number,
    outcome_words,
    parameter_names,
)


def header(board: Leaderboard, winner: Winner | None, evaluation: Evaluation | None) -> str:
    """Returns the report's title, one sentence and the main numbers."""
    if winner:
        where = f" at step {winner.step}" if winner.step is not None else ""
        values = goals_in_words(winner.values) if board.further else f"{board.metric} {measure(winner.value)}"
        story = f"Trial {winner.trial} of {len(board.rows)} won with {values}{where}."
        story += f" The rule: {winner.rule}." if board.further else ""
    else:
        story = f"None of {len(board.rows)} trials has a result; the causes are below."
    base = f"<p class='soft'>Base model <code>{escape(winner.base_model)}</code></p>" if winner else ""
    tiles = "".join(
        f"<div class='tile'><b{' class=good' if good else ''}>{escape(value)}</b><span>{escape(name)}</span></div>"
        for value, name, good in _tiles(board, winner, evaluation)
    )
    return f"""<header><p class="eyebrow">Sweep report</p><h1>{escape(board.experiment)}</h1>
<p>{escape(story)}</p>{base}</header><div class="tiles">{tiles}</div>"""


def _tiles(board: Leaderboard, winner: Winner | None, evaluation: Evaluation | None) -> Iterable[tuple[str, str, bool]]:
    metric = next(iter(task_metrics(evaluation.metrics)), None) if evaluation else None
    if evaluation and metric and metric in evaluation.difference:
        gap = evaluation.difference[metric]
        base, tuned = (measure(evaluation.systems.get(system, {}).get(metric))[:5] for system in ("base", "winner"))
        level = f"{gap.level * 100:g} % interval {100 * gap.low:+.1f} to {100 * gap.high:+.1f}"
        yield f"{100 * gap.mean:+.1f} points", f"{metric.replace('_', ' ')}, {level}", gap.low > 0
        yield f"{base} → {tuned}", f"{metric.replace('_', ' ')} on {evaluation.rows} unseen rows", False
    if winner:
        yield measure(winner.value), _winner_words(board, winner), False
    kinds = [row.outcome for row in board.rows]
    counts = [f"{kinds.count(kind)} {outcome_words(kind)}" for kind in OUTCOMES if kind in kinds]
    yield str(len(board.rows)), "trials: " + ", ".join(counts), False
    spent = sum(row.seconds or 0.0 for row in board.rows)
    yield duration(spent), "of training, all trials together", False


def _winner_words(board: Leaderboard, winner: Winner) -> str:
    if not board.further:
        return f"best {board.metric} in the search"
    others = {name: value for name, value in winner.values.items() if name != board.metric}
    return f"{board.metric} of the winner, with {goals_in_words(others)}"


def against_base(evaluation: Evaluation | None, uses: Uses | None, run: str, drawn: bool) -> str:
    """Returns the comparison of base and winner on rows that no trial saw, and what these rows were used for."""
    title = "<h2>Base against winner</h2>"
    if evaluation is None:
        note = f"The winner was not evaluated yet. Run <code>raytune-ft evaluate {escape(run)}</code>."
        return f"<section>{title}<p class='note'>{note}</p></section>"
    base, winner = (evaluation.systems.get(system, {}) for system in ("base", "winner"))
    rows = []
    for metric in evaluation.metrics:
        gap = evaluation.difference.get(metric)
        interval = f"{difference(gap.low)} to {difference(gap.high)}" if gap else "-"
        cells = (measure(base.get(metric)), measure(winner.get(metric)), difference(gap.mean) if gap else "-", interval)
        rows.append((metric.replace("_", " "), *cells))
    level = next((f"{100 * gap.level:g} % interval" for gap in evaluation.difference.values()), "interval")
    table = _table(("metric", "base", "winner", "difference", level), rows, numbers=range(1, 5))
    plot = '<div class="plot" id="differences"></div>' if drawn else ""
    note = f"On {evaluation.rows} rows of the {evaluation.split} split, which no trial saw, compared row by row."
    if few := evaluation.few():
        note += f" {few}."
    if uses is not None:
        note += " " + uses.words(next((gap.level for gap in evaluation.difference.values()), 0.95))
    return f"<section>{title}<p class='note'>{escape(note)}</p>{table}{plot}</section>"


def search_plots(board: Leaderboard) -> str:
    """Returns the placeholders of the history and the learning curves."""
    metric = escape(board.metric)
    return f"""<div class="pair">
<section><h2>Search</h2><p class="note">Best {metric} of each trial; a star is the winner.</p>
<div class="plot" id="history"></div></section>
<section><h2>Learning curves</h2><p class="note">{metric} of every trial over its steps.</p>
<div class="plot" id="curves"></div></section></div>"""


def goals(board: Leaderboard, drawn: bool) -> str:
    """Returns the placeholder of the plot of goals against each other; empty where there is one goal."""
    if not drawn:
        return ""
    front = sum(row.front for row in board.rows)
    names = [goal.name for goal in board.metrics]
    others = f" The plot shows the first two of {', '.join(names)}." if len(names) > 2 else ""
    note = f"Every trial at its best {names[0]}. The winner is ringed: {board.rule}."
    note += f" Blue trials, {front} of {len(board.rows)}, are beaten by no other one in all goals at once.{others}"
    return f"""<section><h2>Goals against each other</h2><p class="note">{escape(note)}</p>
<div class="plot" id="pareto"></div></section>"""


def parameters(importances: Importances, parallel: bool) -> str:
    """Returns the sections on which parameters mattered, and on how configurations lead to results."""
    if importances.shares:
        compared = f"{importances.trials} trials at step {importances.step}"
        note = f"Share of each parameter: PED-ANOVA over {compared}."
        note += " Few trials: read it as a hint." if importances.trials < 20 else ""
        plot = '<div class="plot" id="importance"></div>'
    else:
        note, plot = importances.absent, ""
    lines = '<div class="plot" id="parallel"></div>' if parallel else ""
    colours = "One line a trial; green is better, orange worse, the winner blue."
    words = colours if parallel else "Fewer than two trials have a value."
    return f"""<section><h2>What mattered</h2><p class="note">{escape(note)}</p>{plot}</section>
<section><h2>From settings to results</h2><p class="note">{words}</p>{lines}</section>"""


def leaderboard(board: Leaderboard) -> str:
    """Returns the table of all trials, the best first."""
    names = parameter_names(row.parameters for row in board.rows)
    further = [goal.name for goal in board.further]
    front = ["front"] if further else []
    head = ("rank", "trial", "outcome", board.metric, *further, *front, "step", "time", *names.values())
    rows = [
        (
            number(row.rank),
            row.trial,
            row.outcome,
            measure(row.value),
            *(goal_value(name, row.values.get(name)) for name in further),
            *(front_mark(row.front) for _ in front),
            number(row.step),
            duration(row.seconds),
            *(number(row.parameters.get(key), 3) for key in names),
        )
        for row in board.rows
    ]
    won = any(row.rank == 1 for row in board.rows)
    table = _table(head, rows, numbers=[0, *range(3, len(head))], outcome=2, bold_first=won)
    return f"<section><h2>Leaderboard</h2>{table}</section>"


def outcomes(board: Leaderboard) -> str:
    """Returns a table of how the trials ended and why: a row for each cause, and one for all pruned trials."""
    causes: dict[tuple[str, str], list[str]] = {}
    examples: dict[str, str] = {}
    for row in board.rows:
        example = examples.setdefault(row.outcome, row.reason)
        cause = f"such as: {example}" if row.outcome == "pruned" and example else row.reason
        causes.setdefault((row.outcome, cause or "-"), []).append(row.trial)
    order = {outcome: place for place, outcome in enumerate(OUTCOMES)}
    ranked = sorted(causes.items(), key=lambda item: order.get(item[0][0], len(order)))
    rows = [(outcome, str(len(trials)), reason, _some(trials)) for (outcome, reason), trials in ranked]
    table = _table(("outcome", "trials", "cause", "which"), rows, numbers=[1], outcome=0, wrap=2)
    return f"<section><h2>How trials ended</h2>{table}</section>"


def plan_truth(lines: Sequence[Line]) -> str:
    """Returns a table of what the sweep was planned to take and what it took; empty where it has no plan."""
    if not lines:
        return ""
    rows = [
        (
            line.words,
            span_words(line.name, line.planned),
            span_words(line.name, line.forecast),
            amount(line.name, line.truth),
            verdict(line),
        )
        for line in lines
    ]
    head = ("quantity", "planned (range)", "forecast after the first rung", "truth", "truth / planned")
    return f"<section><h2>Plan against truth</h2>{_table(head, rows, numbers=range(1, 5))}</section>"


def data(facts: DataFacts | None) -> str:
    """Returns the section on the data: rows, sources, fingerprint and duplicates."""
    if facts is None:
        return "<section><h2>Data</h2><p class='note'>This run keeps no data/manifest.json.</p></section>"
    rows = [
        (name, number(split.rows), number(split.tokens), number(split.dropped), split.source or "-")
        for name, split in facts.splits.items()
    ]
    table = _table(("split", "rows", "tokens", "dropped", "source"), rows, numbers=(1, 2, 3), wrap=4)
    leaks = [f"{count} in {place}" for place, count in facts.duplicates.items() if count]
    words = "Duplicate rows: " + "; ".join(leaks) + "." if leaks else "No duplicate rows within or between splits."
    return f"""<section><h2>Data</h2><p class="note">{escape(words)} Form {escape(facts.form)},
fingerprint <code>{escape(facts.fingerprint)}</code></p>{table}</section>"""


def experiment(text: str) -> str:
    """Returns the resolved experiment file, as it was run."""
    words = "Everything that was set, defaults included; secrets are redacted."
    return f"""<section><details><summary>Experiment file</summary><p class="note">{words}</p>
<pre>{escape(text)}</pre></details></section><footer>Written by raytune-ft report.</footer>"""


def _some(trials: Sequence[str], most: int = 8) -> str:
    return ", ".join(trials[:most]) + (f" and {len(trials) - most} more" if len(trials) > most else "")


def _table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Iterable[int] = (),
    outcome: int | None = None,
    wrap: int | None = None,
    bold_first: bool = False,
) -> str:
    """Returns an HTML table of plain text.

    Args:
        head: The header of each column.
        rows: The cells of each row.
        numbers: Positions of the columns that are right-aligned.
        outcome: Position of the column of outcomes, which get their colour.
        wrap: Position of the column whose text may wrap.
        bold_first: Whether the first row is bold.
    """
    right = frozenset(numbers)
    kinds = ["number" if place in right else "wrap" if place == wrap else "" for place in range(len(head))]
    top = "".join(f"<th class='{kind}'>{escape(name)}</th>" for kind, name in zip(kinds, head, strict=True))
    lines = []
    for line, row in enumerate(rows):
        cells = []
        for place, (kind, value) in enumerate(zip(kinds, row, strict=True)):
            dot = f"<span class='dot' style='background:{OUTCOME_COLOURS.get(value, NEUTRAL)}'></span>"
            shown = dot + escape(outcome_words(value)) if place == outcome else escape(value)
            cells.append(f"<td class='{kind}'>{shown}</td>")
        lines.append(f"<tr{' class=first' if bold_first and line == 0 else ''}>{''.join(cells)}</tr>")
    return f"<div class='scroll'><table><tr>{top}</tr>{''.join(lines)}</table></div>"
