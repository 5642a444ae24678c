from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

from rich.console import Console

from raytune_ft.config.search.goals import Metric
from raytune_ft.paths import RunDirectory
from raytune_ft.reporting.read import read_evaluation, read_leaderboard
from raytune_ft.reporting.terminal.leaderboard import comparison_table, leaderboard_table
from raytune_ft.reporting.terminal.live import LiveTable
from raytune_ft.reporting.wording import duration, short_names

MakeRun = Callable[..., RunDirectory]


def text_of(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def follow(console: Console) -> None:
    with LiveTable(3, Metric(name="eval_loss"), console) as table:
        table.started("0000", {"train.learning_rate": 1e-3, "method.r": 8})
        table.reported("0000", {"step": 5, "rung": 1, "train_loss": 0.9, "eval_loss": 0.8})
        table.started("0001", {"train.learning_rate": 5e-3, "method.r": 4})
        table.reported("0001", {"step": 5, "rung": 1, "train_loss": float("nan"), "eval_loss": float("nan")})
        table.ended("0001", "diverged", "loss\nbecame \x1b[31mNaN [/red]", None)
        table.ended("0000", "completed", "", 0.5)


def test_the_leaderboard_has_a_column_for_each_searched_parameter(make_run: MakeRun) -> None:
    run = make_run()
    board = read_leaderboard(run)
    lines = text_of(leaderboard_table(board)).splitlines()
    header = next(line for line in lines if "rank" in line)
    assert header.split()[-3:] == ["learning_rate", "r", "train_batch_size"]
    assert f"{board.rows[0].value:.4f}" in next(line for line in lines if board.rows[0].trial in line)


def test_the_comparison_shows_the_interval_of_the_difference(make_run: MakeRun) -> None:
    text = text_of(comparison_table(read_evaluation(make_run())))
    line = next(line for line in text.splitlines() if "accuracy" in line)
    assert line.split() == ["accuracy", "0.7900", "0.8750", "+0.085", "+0.050", "to", "+0.120"]
    assert "95 % interval" in text


def test_a_label_with_few_rows_explains_the_wide_interval_of_macro_f1(make_run: MakeRun) -> None:
    evaluation = replace(read_evaluation(make_run()), metrics=("macro_f1",), label_rows={" yes": 393, " no": 7})
    text = " ".join(text_of(comparison_table(evaluation)).split())
    assert "macro_f1 counts ' no', with 7 rows, as much as any label: hence its wide interval" in text
    for other in ({"metrics": ("accuracy",)}, {"label_rows": {" yes": 200, " no": 200, " never": 0}}):
        assert replace(evaluation, **other).few() is None


def test_parameters_that_end_alike_keep_their_whole_path() -> None:
    assert short_names(["train.lr", "method.r", "draft.r"]) == {
        "train.lr": "lr",
        "method.r": "method.r",
        "draft.r": "draft.r",
    }


def test_durations_are_written_for_people() -> None:
    assert [duration(seconds) for seconds in (42, 185, 7620, None)] == ["42 s", "3 min 05 s", "2 h 07 min", "-"]


def test_without_a_terminal_each_event_is_one_plain_line() -> None:
    stream = io.StringIO()
    follow(Console(file=stream, width=60))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)
    assert lines[0] == "trial 0000 [1/3] started: learning_rate 0.001, r 8"
    assert lines[1] == "trial 0000: step 5, rung 1, train_loss 0.9000, eval_loss 0.8000 (best 0.8000, trial 0000)"
    assert lines[4].startswith("trial 0001 diverged after 0 s: loss became [31mNaN [/red] (best 0.8000")
    assert "eval_loss 0.5000 (best 0.5000, trial 0000)" in lines[5]


def test_on_a_terminal_a_table_is_drawn_in_place() -> None:
    stream = io.StringIO()
    follow(Console(file=stream, force_terminal=True, width=120, height=30))
    text = stream.getvalue()
    assert "\x1b[" in text and "2 of 3 trials ended" in text and "diverged" in text


def test_the_live_table_of_a_long_search_keeps_the_best_and_the_latest_in_view() -> None:
    stream = io.StringIO()
    with LiveTable(
        500, Metric(name="eval_loss"), Console(file=stream, force_terminal=True, width=120, height=20)
    ) as table:
        for index in range(500):
            table.started(f"{index:04d}", {"method.r": 8})
            table.ended(f"{index:04d}", "completed", "", 1.0 - (index == 17))
    last = stream.getvalue().rsplit("500 of 500", 1)[0][-4000:]
    assert "0017" in last and "0499" in last and "0300" not in last
