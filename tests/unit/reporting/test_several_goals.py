"""Several goals in tables, report and status; one goal leaves them as they are."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from rich.console import Console

from raytune_ft.config.load import load_experiment
from raytune_ft.paths import RunDirectory, read_json, write_json, write_text
from raytune_ft.reporting.comparison import compare_runs
from raytune_ft.reporting.html.html import write_report
from raytune_ft.reporting.html.importance import parameter_importances
from raytune_ft.reporting.html.pareto import pareto
from raytune_ft.reporting.read import read_leaderboard
from raytune_ft.reporting.records import Leaderboard
from raytune_ft.reporting.terminal.comparison_view import comparison_view
from raytune_ft.reporting.terminal.leaderboard import leaderboard_table
from raytune_ft.reporting.terminal.status import run_status, status_view
from raytune_ft.search.results.leaderboard import build_leaderboard, choose_winner
from raytune_ft.search.results.rows import LeaderboardRow
from raytune_ft.search.study.storage import open_storage
from raytune_ft.training.metrics_log import read_metrics, write_metrics

MakeRun = Callable[..., RunDirectory]
TWO = "  metrics: [{name: eval_loss}, {name: adapter_mib}]\n"


def with_goals(run: RunDirectory, goals: str) -> RunDirectory:
    """The run as it would be had its search had these goals; the size of an adapter is that of its rank."""
    text = run.experiment.read_text()
    write_text(run.experiment, text.replace("search:\n", "search:\n" + goals))
    for path in run.trials.iterdir():
        trial = run.trial(path.name)
        mib = read_json(trial.config)["parameters"]["method.r"] * 0.2905
        reports = [
            report | {"adapter_mib": mib, "checkpoint": f"step-{report['step']:06d}"}
            for report in read_metrics(trial.metrics)
        ]
        write_metrics(trial.metrics, reports)
        for report in reports:
            (trial.checkpoints / report["checkpoint"]).mkdir(parents=True, exist_ok=True)
    experiment = load_experiment(run.experiment)
    choose_winner(experiment, run, build_leaderboard(experiment, run), "4be1" * 16)
    return run


def shown(view: Any) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(view)
    return console.file.getvalue()  # type: ignore[attr-defined]


class Text(HTMLParser):
    """What a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.data = "", ""
        self.feed(text)

    def handle_data(self, data: str) -> None:
        if self.lasttag != "script":
            self.text += data + " "
        elif not self.data:
            self.data = data


@pytest.fixture
def run(make_run: MakeRun) -> RunDirectory:
    return with_goals(make_run(), TWO + "  best: eval_loss within 20 %\n")


def test_the_table_has_a_column_for_each_goal_and_says_who_is_on_the_front_and_why_the_first_won(run) -> None:
    board = read_leaderboard(run)
    text = shown(leaderboard_table(board))
    assert "eval_loss   adapter_mib   front   step" in text
    assert "winner: eval_loss within 20 % of the best, then the least adapter_mib" in text
    (first,) = [line for line in text.splitlines() if line.split()[:1] == ["1"]]
    assert f"{board.rows[0].values['adapter_mib']:.3g}" in first.split() and "yes" in first.split()
    least = min(row.value for row in board.rows if row.value is not None)
    assert least < board.rows[0].value <= 1.2 * least


def test_one_goal_leaves_the_table_and_the_report_as_they_are(make_run) -> None:
    plain = make_run()
    before = shown(leaderboard_table(read_leaderboard(plain)))
    one = with_goals(make_run("one-goal"), "  metrics: [{name: eval_loss}]\n")
    after = shown(leaderboard_table(read_leaderboard(one)))
    assert after.splitlines()[1:3] == before.splitlines()[1:3]
    assert "front" not in after and "winner:" not in after
    page = Text(write_report(one).read_text())
    assert "pareto" not in json.loads(page.data)
    assert "Goals against each other" not in page.text and "best eval_loss in the search" in page.text


def test_the_report_tells_the_rule_and_draws_the_front(run) -> None:
    page = Text(write_report(run).read_text())
    winner = read_json(run.winner)
    assert "The rule: eval_loss within 20 % of the best, then the least adapter_mib." in page.text
    assert f"won with eval_loss {winner['value']:.4f}, adapter_mib" in page.text
    assert "eval_loss of the winner, with adapter_mib" in page.text and "best eval_loss in the search" not in page.text
    assert "Goals against each other" in page.text
    figure = json.loads(page.data)["pareto"]
    (ring,) = [each for each in figure["data"] if each["name"] == "winner"]
    assert (ring["x"], ring["y"]) == ([winner["values"]["adapter_mib"]], [winner["value"]])


def test_the_plot_separates_the_front_from_what_it_beats(run) -> None:
    board = read_leaderboard(run)
    figure = pareto(board)
    assert figure is not None
    by_name = {each["name"]: each for each in figure["data"]}
    assert sorted(by_name["front"]["text"]) == sorted(row.trial for row in board.rows if row.front)
    assert len(by_name["beaten"]["x"]) == sum(bool(row.values) and not row.front for row in board.rows)
    line = next(each for each in figure["data"] if each["mode"] == "lines")
    assert line["line"]["shape"] == "hv"
    assert line["x"] == sorted(line["x"]) and line["y"] == sorted(line["y"], reverse=True)


def test_more_goals_than_two_have_no_line_and_many_on_the_front_no_names() -> None:
    rows = tuple(
        LeaderboardRow(place + 1, f"{place:04d}", 1.0 - place / 50, "completed", values=values, front=True)
        for place in range(20)
        if (values := {"eval_loss": 1.0 - place / 50, "tokens": 100.0 + place, "adapter_mib": 1.0})
    )
    goals = ({"name": "eval_loss"}, {"name": "tokens", "mode": "max"}, {"name": "adapter_mib"})
    board = Leaderboard("x", "eval_loss", "min", rows, tuple(_goal(each) for each in goals), "the least eval_loss")
    figure = pareto(board)
    assert figure is not None and {each["mode"] for each in figure["data"]} == {"markers"}
    assert figure["layout"]["xaxis"]["title"]["text"] == "tokens, more is better"


def _goal(values: dict[str, str]) -> Any:
    from raytune_ft.reporting.records import Goal

    return Goal(**values)


def test_where_no_trial_has_a_value_nothing_is_drawn(run) -> None:
    board = read_json(run.leaderboard)
    for row in board["rows"]:
        row.update(rank=None, value=None, values={}, front=False, outcome="failed")
    write_json(run.leaderboard, board)
    assert pareto(read_leaderboard(run)) is None
    run.winner.unlink()
    assert "Goals against each other" not in write_report(run).read_text()


def test_status_names_the_front_while_the_sweep_runs(run) -> None:
    run.winner.unlink()
    run.leaderboard.unlink()
    status = run_status(run)
    assert len(status.front) >= 2
    values = [(best.value, best.values["adapter_mib"]) for best in status.front]
    assert values == sorted(values) and [mib for _, mib in values] == sorted((mib for _, mib in values), reverse=True)
    assert f"on the front: trial {status.front[0].trial}, step " in shown(status_view(status))
    diverged = next(
        path.name for path in run.trials.iterdir() if read_json(path / "outcome.json")["outcome"] == "diverged"
    )
    assert diverged not in {best.trial for best in status.front}


def test_status_of_one_goal_has_no_front(make_run) -> None:
    status = run_status(make_run())
    assert status.front == () and "front" not in shown(status_view(status))


def test_compare_shows_both_winners_by_every_goal_and_doubts_where_their_rules_differ(run, make_run) -> None:
    other = with_goals(make_run("other"), TWO)
    both = compare_runs(run, other)
    text = shown(comparison_view(both))
    words = {line.strip().split("  ")[0]: line.split()[-2:] for line in text.splitlines() if line.strip()}
    one, two = read_json(run.winner), read_json(other.winner)
    assert words["eval_loss"] == [f"{one['value']:.4f}", f"{two['value']:.4f}"]
    assert words["adapter_mib"] == [f"{each['values']['adapter_mib']:.3g}" for each in (one, two)]
    assert words["on the front"] == ["3", "3"]
    assert both.first.best == both.second.best == two["value"] < one["value"]
    assert "won by eval_loss within 20 % of the best, then the least adapter_mib and by the least eval_loss" in text
    assert not any("won by" in doubt for doubt in compare_runs(run, run).warnings)


def test_compare_of_runs_with_one_goal_speaks_of_no_front(make_run) -> None:
    text = shown(comparison_view(compare_runs(make_run("one"), make_run("other"))))
    assert "front" not in text and "adapter_mib" not in text and "won by" not in text


def test_importances_come_from_the_curves_that_a_study_of_several_goals_keeps(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    study = optuna.create_study(
        study_name="x", storage=f"sqlite:///{run.study}", directions=["minimize"] * 2, sampler=RandomSampler(seed=0)
    )
    for number in range(6):
        trial = study.ask()
        rate = trial.suggest_float("train.learning_rate", 0.0, 1.0)
        trial.suggest_float("method.dropout", 0.0, 1.0)
        trial.set_user_attr("curve", [[5, rate]] + ([[10, rate / 2]] if number % 2 else []))
        if number % 2:
            study.tell(trial, [rate / 2, 1.0])
        else:
            study.tell(trial, state=TrialState.PRUNED)
    found = parameter_importances(run, "x")
    assert (found.trials, found.step) == (6, 5)
    assert next(iter(found.shares)) == "train.learning_rate" and sum(found.shares.values()) == pytest.approx(1)


def test_importances_are_read_from_where_the_study_is_kept(tmp_path: Path) -> None:
    run, kept = RunDirectory(tmp_path / "run"), tmp_path / "shared.journal"
    run.root.mkdir()
    run.experiment.write_text(f"search: {{storage: {kept}}}")
    assert "keeps no shared.journal" in parameter_importances(run, "x").absent
    study = optuna.create_study(study_name="x", storage=open_storage(str(kept), run), sampler=RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask()
        rate = trial.suggest_float("train.learning_rate", 0.0, 1.0)
        trial.set_user_attr("curve", [[5, rate]])
        study.tell(trial, rate)
    assert parameter_importances(run, "x").trials == 5
    assert "shared.journal holds no study named y" in parameter_importances(run, "y").absent


def test_a_report_is_written_also_where_the_database_is_away(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.experiment.write_text("search: {storage: 'postgresql://nobody:***@127.0.0.1:9/none'}")
    assert "Importances are not known here: search.storage" in parameter_importances(run, "x").absent


def test_a_board_of_before_there_were_goals_is_still_read(make_run, tmp_path: Path) -> None:
    board = read_leaderboard(make_run())
    assert board.further == () and board.rows[0].values == {} and not board.rows[0].front
