"""A budget closes a sweep of a tiny Llama, by the real command; and the plan, held against what it took."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna

from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.reporting.plan_truth import plan_against_truth
from raytune_ft.training.metrics_log import read_metrics

TRIALS = 6
# A trial may start, and not have reported yet, when another's report uses up the last tokens.
CUT = re.compile("the budget's 2,000 tokens are used up (at step |before its first report)")


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raytune_ft", *words], capture_output=True, text=True, timeout=900, check=False
    )


def states(run: RunDirectory) -> dict[int, str]:
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{run.study}")
    return {trial.number: trial.state.name for trial in study.trials}


def test_a_token_budget_closes_the_study_and_a_greater_one_opens_it_again(
    toy_experiment: Callable[..., Path], tmp_path: Path
) -> None:
    search = {
        "space": {"parameters": {"train.learning_rate": {"loguniform": [1e-3, 1e-2]}}},
        "scheduler": {"type": "none"},
        "trials": TRIALS,
        "max_concurrent": 2,
        "budget": {"tokens": 2000, "prices": {"cpu": 0.5}},
    }
    train = {"per_device_train_batch_size": 8, "max_steps": 12, "eval_steps": 4, "dtype": "float32"}
    experiment = str(toy_experiment(search=search, train=train))
    run = RunDirectory(tmp_path / "runs" / "toy")

    closed = command("sweep", experiment, "--json")
    assert closed.returncode == 0, closed.stderr
    assert "the budget's 2,000 tokens are used up (2," in closed.stderr and f" of {TRIALS} trials" in closed.stderr
    board = json.loads(closed.stdout)
    assert board["winner"] == board["rows"][0]["trial"] and len(board["rows"]) < TRIALS
    cut = [row for row in board["rows"] if row["outcome"] == "pruned"]
    assert cut and all(CUT.match(row["reason"]) for row in cut), cut
    assert all(state in ("COMPLETE", "PRUNED") for state in states(run).values())

    spent = read_json(run.spent)
    reported = [rows for trial in run.trials.iterdir() if (rows := read_metrics(trial / "metrics.jsonl"))]
    trained = sum(rows[-1]["tokens"] for rows in reported)
    assert spent["tokens"] == trained and 2000 <= trained < 4000  # at most a report of each of two trials too many
    assert spent["closed"] == "the budget's 2,000 tokens are used up" and spent["cost"] > 0
    assert 0 < spent["device_hours"] <= 2 * spent["hours"]
    status = command("status", str(run.root), "--json")
    assert json.loads(status.stdout)["finished"] and "of 2,000 tokens" in status.stdout

    refused = command("sweep", experiment, "--resume")
    assert (
        refused.returncode == 2
        and "is closed with " in refused.stderr
        and "raise search.budget.tokens to go on" in refused.stderr
    )

    raised = command("sweep", experiment, "--resume", "--set", "search.budget.tokens=1000000", "--json")
    assert raised.returncode == 0, raised.stderr
    rows = json.loads(raised.stdout)["rows"]
    assert len(rows) == TRIALS and len(states(run)) == TRIALS
    assert {row["trial"] for row in cut} <= {row["trial"] for row in rows}
    again = read_json(run.spent)
    assert again["tokens"] > spent["tokens"] and again["hours"] > spent["hours"] and again["closed"] is None


def test_the_plan_holds_against_what_a_sweep_took(toy_experiment: Callable[..., Path], tmp_path: Path) -> None:
    search = {
        "space": {"parameters": {"train.learning_rate": {"loguniform": [1e-3, 1e-2]}}},
        "scheduler": {"type": "none"},
        "trials": 4,
    }
    train = {"per_device_train_batch_size": 8, "max_steps": 60, "eval_steps": 20, "dtype": "float32"}
    experiment = str(toy_experiment(search=search, train=train))
    swept = command("sweep", experiment)
    assert swept.returncode == 0, swept.stderr
    run = RunDirectory(tmp_path / "runs" / "toy")
    truth = {line.name: line for line in plan_against_truth(run)}
    assert truth["tokens"].truth == truth["tokens"].planned.likely == truth["tokens"].forecast.likely
    assert 0.6 < truth["memory_mib"].over_plan < 1.6
    assert 0.4 < truth["hours"].over_forecast < 2.5  # the goal is 1.5; a machine that runs tests is a busy one
    report = command("report", str(run.root), "--json")
    values = json.loads(report.stdout)
    assert values["plan_truth"]["hours"]["truth"] == truth["hours"].truth
    assert "Plan against truth" in run.report.read_text()
