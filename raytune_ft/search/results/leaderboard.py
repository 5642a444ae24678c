"""All trials of a study in order, and the winner among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import with_parameters
from raytune_ft.config.search.goals import Metric
from raytune_ft.errors import RaytuneError
from raytune_ft.methods.weights.base_weights import recorded_base_sha256
from raytune_ft.metrics.named import sign
from raytune_ft.paths import RunDirectory, read_json, write_json
from raytune_ft.search.results.causes import NothingWon, causes_of
from raytune_ft.search.results.goals import goals_of, on_front, ranking, rule_words, values_in
from raytune_ft.search.results.rows import LeaderboardRow
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind


def build_leaderboard(experiment: Experiment, run: RunDirectory) -> list[LeaderboardRow]:
    """Ranks the trials that ended with a value and a checkpoint, and writes `leaderboard.json`."""
    goals = goals_of(experiment)
    best = experiment.search.best if experiment.search else None
    rows = [row for path in sorted(run.trials.glob("*")) if path.is_dir() and (row := row_of(run, path.name, goals))]
    board = in_order(rows, goals, best)
    write_json(
        run.leaderboard,
        {
            "schema": 1,
            "experiment": experiment.name,
            "metric": goals[0].name,
            "mode": goals[0].mode,
            "metrics": [goal.model_dump() for goal in goals],
            "rule": rule_words(goals, best),
            "rows": [asdict(row) for row in board],
        },
    )
    return board


def in_order(rows: Sequence[LeaderboardRow], goals: Sequence[Metric], best: str | None) -> list[LeaderboardRow]:
    """The rows with their ranks, best first; last come those of trials that ended without a value, which have none.

    The first place is for weights that are there: a row that lost its own has it only where no row has any.
    """
    valued = [row for row in rows if row.value is not None]
    values = [row.values for row in valued]
    front = on_front(values, goals)
    order = ranking(values, goals, best)
    there = [at for at, row in enumerate(valued) if row.checkpoint is not None]
    if there and valued[order[0]].checkpoint is None:
        first = there[ranking([values[at] for at in there], goals, best)[0]]
        order = [first, *(at for at in order if at != first)]
    ranked = [replace(valued[at], rank=rank, front=front[at]) for rank, at in enumerate(order, 1)]
    return ranked + [row for row in rows if row.value is None]


def row_of(run: RunDirectory, name: str, goals: Sequence[Metric]) -> LeaderboardRow | None:
    """The trial's row, without a rank; None where it has not ended."""
    trial, first = run.trial(name), goals[0]
    outcome = Outcome.read(trial)
    if outcome is None:
        return None
    config = read_json(trial.config) if trial.config.exists() else {"parameters": {}}
    reports = [
        report
        for report in read_metrics(trial.metrics)
        if report.get("checkpoint") and first.name in values_in(report, goals)
    ]
    servable = outcome.kind in (OutcomeKind.completed, OutcomeKind.pruned)
    # Of a trial that lost, no weights are left; one that was ended in the middle of a checkpoint lacks that one.
    there = [report for report in reports if (trial.checkpoints / report["checkpoint"]).is_dir()]
    told = {id(report): values_in(report, goals) for report in reports}
    valued = (there or reports) if servable else []
    best = min(valued, key=lambda report: sign(first) * told[id(report)][first.name], default=None)
    return LeaderboardRow(
        rank=None,
        trial=name,
        value=told[id(best)][first.name] if best else None,
        outcome=str(outcome.kind),
        reason=outcome.reason,
        step=best["step"] if best else outcome.step,
        seconds=outcome.seconds or max((float(report.get("seconds") or 0.0) for report in reports), default=0.0),
        parameters=config["parameters"],
        checkpoint=str((trial.checkpoints / best["checkpoint"]).relative_to(run.root)) if best and there else None,
        values=told[id(best)] if best else {},
    )


def choose_winner(
    experiment: Experiment, run: RunDirectory, board: list[LeaderboardRow], fingerprint: str
) -> LeaderboardRow:
    """Writes `winner.json` for the first of the leaderboard.

    Raises:
        NothingWon: No trial ended with an adapter; with the causes.
        RaytuneError: No trial has its weights any more.
    """
    goals = goals_of(experiment)
    winner = next((row for row in board if row.rank == 1), None)
    if winner is None:
        raise NothingWon(run.root, causes_of(board))
    if winner.checkpoint is None:
        raise RaytuneError(f"{run.trial(winner.trial).checkpoints}: the weights of all trials are gone; put these back")
    write_json(
        run.winner,
        {
            "schema": 1,
            "experiment": experiment.name,
            "trial": winner.trial,
            "parameters": winner.parameters,
            "metric": goals[0].name,
            "value": winner.value,
            "values": winner.values,
            "rule": rule_words(goals, experiment.search.best if experiment.search else None),
            "step": winner.step,
            "adapter": winner.checkpoint,
            "base_model": experiment.base_model,
            "dtype": with_parameters(experiment, winner.parameters).train.number_type,
            "base_sha256": _base_sha256(experiment, run, winner),
            "data_fingerprint": fingerprint,
        },
    )
    return winner


def _base_sha256(experiment: Experiment, run: RunDirectory, winner: LeaderboardRow) -> str | None:
    """Of the weights it was trained on: what was recorded of this very winner before, else of those that lie there."""
    before = read_json(run.winner) if run.winner.is_file() else {}
    if (before.get("trial"), before.get("step")) == (winner.trial, winner.step) and before.get("base_sha256"):
        return str(before["base_sha256"])
    return recorded_base_sha256(experiment.base_model)
