"""All trials of a study in order, and the winner among them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.errors import RaytuneError
from raytune_ft.paths import RunDirectory, read_json, write_json
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind


@dataclass(frozen=True)
class Row:
    """One trial of the leaderboard; `value` is the best that it reported, at `step`."""

    rank: int | None
    trial: str
    value: float | None
    outcome: str
    reason: str
    step: int
    seconds: float
    parameters: dict[str, Any]
    checkpoint: str | None


def goal(experiment: Experiment) -> tuple[str, str]:
    """The metric that decides, and whether `min` or `max` of it is wanted."""
    return (experiment.search.metric, experiment.search.mode) if experiment.search else ("eval_loss", "min")


def build_leaderboard(experiment: Experiment, run: RunDirectory) -> list[Row]:
    """Ranks the trials that ended with a value and a checkpoint, and writes `leaderboard.json`."""
    metric, mode = goal(experiment)
    sign = 1.0 if mode == "min" else -1.0
    rows = [_row(run, path.name, metric, sign) for path in sorted(run.trials.glob("*")) if path.is_dir()]
    ranked = sorted((row for row in rows if row and row.value is not None), key=lambda row: sign * (row.value or 0.0))
    unranked = [row for row in rows if row and row.value is None]
    board = [Row(**{**asdict(row), "rank": rank}) for rank, row in enumerate(ranked, 1)] + unranked
    write_json(
        run.leaderboard,
        {
            "schema": 1,
            "experiment": experiment.name,
            "metric": metric,
            "mode": mode,
            "rows": [asdict(row) for row in board],
        },
    )
    return board


def _row(run: RunDirectory, name: str, metric: str, sign: float) -> Row | None:
    trial = run.trial(name)
    outcome = Outcome.read(trial)
    if outcome is None:
        return None
    config = read_json(trial.config) if trial.config.exists() else {"parameters": {}}
    reports = [
        report
        for report in read_metrics(trial.metrics)
        if report.get("checkpoint") and report.get(metric) is not None and math.isfinite(report[metric])
    ]
    servable = outcome.kind in (OutcomeKind.completed, OutcomeKind.pruned)
    best = min(reports, key=lambda report: sign * report[metric]) if reports and servable else None
    return Row(
        rank=None,
        trial=name,
        value=best[metric] if best else None,
        outcome=str(outcome.kind),
        reason=outcome.reason,
        step=best["step"] if best else outcome.step,
        seconds=outcome.seconds or (reports[-1]["seconds"] if reports else 0.0),
        parameters=config["parameters"],
        checkpoint=str((trial.checkpoints / best["checkpoint"]).relative_to(run.root)) if best else None,
    )


def choose_winner(experiment: Experiment, run: RunDirectory, board: list[Row], fingerprint: str) -> Row:
    """Writes `winner.json` for the first of the leaderboard.

    Raises:
        RaytuneError: When no trial ended with an adapter; the message counts the causes.
    """
    winner = next((row for row in board if row.rank == 1), None)
    if winner is None:
        causes = "; ".join(f"{row.trial} {row.outcome}: {row.reason}" for row in board[:5])
        raise RaytuneError(f"{run.root}: none of {len(board)} trials ended with an adapter ({causes})")
    write_json(
        run.winner,
        {
            "schema": 1,
            "experiment": experiment.name,
            "trial": winner.trial,
            "parameters": winner.parameters,
            "metric": goal(experiment)[0],
            "value": winner.value,
            "step": winner.step,
            "adapter": winner.checkpoint,
            "base_model": experiment.base_model,
            "data_fingerprint": fingerprint,
        },
    )
    return winner
