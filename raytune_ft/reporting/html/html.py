"""Writes a run's HTML report: one self-contained file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from raytune_ft.evaluation.uses import read_uses
from raytune_ft.paths import RunDirectory, write_text
from raytune_ft.reporting.html import sections
from raytune_ft.reporting.html.importance import parameter_importances
from raytune_ft.reporting.html.parallel import parallel_coordinates
from raytune_ft.reporting.html.pareto import pareto
from raytune_ft.reporting.html.plots import Figure, curves, differences, history, importance
from raytune_ft.reporting.plan_truth import plan_against_truth
from raytune_ft.reporting.read import read_data_facts, read_evaluation, read_leaderboard, read_trials, read_winner


def write_report(run: RunDirectory) -> Path:
    """Writes report.html into the run.

    Evaluation, winner and data facts are shown where the run has them.

    Returns:
        The file's path.

    Raises:
        InputError: When the run has no leaderboard yet.
        IntegrityError: When one of its files is not whole.
    """
    board = read_leaderboard(run)
    trials = read_trials(run)
    winner = read_winner(run) if run.winner.is_file() else None
    evaluation = read_evaluation(run) if run.evaluation.is_file() else None
    facts = read_data_facts(run) if (run.data / "manifest.json").is_file() else None
    shares = parameter_importances(run, board.experiment)
    figures: dict[str, Figure | None] = {
        "history": history(board),
        "curves": curves(trials, winner.trial if winner else None, board.metric),
        "pareto": pareto(board),
        "importance": importance(shares) if shares.shares else None,
        "parallel": parallel_coordinates(board),
        "differences": differences(evaluation) if evaluation else None,
    }
    body = "\n".join(
        [
            sections.header(board, winner, evaluation),
            sections.against_base(evaluation, read_uses(run), str(run.root), figures["differences"] is not None),
            sections.search_plots(board),
            sections.goals(board, figures["pareto"] is not None),
            sections.parameters(shares, figures["parallel"] is not None),
            sections.leaderboard(board),
            sections.outcomes(board),
            sections.plan_truth(plan_against_truth(run)),
            sections.data(facts),
            sections.experiment(run.experiment.read_text(encoding="utf-8")),
        ]
    )
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    write_text(run.report, _page(board.experiment, body, drawn))
    return run.report


def _page(title: str, body: str, figures: Mapping[str, Figure]) -> str:
    from plotly.offline import get_plotlyjs

    resources = files("raytune_ft.reporting")
    style = resources.joinpath("report.css").read_text(encoding="utf-8")
    library, script = get_plotlyjs(), resources.joinpath("report.js").read_text(encoding="utf-8")
    allowed = " ".join(f"'sha256-{_digest(code)}'" for code in (library, script))
    # This allows no network and no script but these two: text from a trial can't run, even if it was not escaped.
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src {allowed}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}: sweep report</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="figures">{_json(figures)}</script>
<script>{library}</script>
<script>{script}</script>
</body>
</html>
"""


def _digest(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")


def _json(value: Any) -> str:
    """Returns JSON that can't end the script element around it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
