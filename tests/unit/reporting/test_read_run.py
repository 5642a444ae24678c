from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.paths import RunDirectory, write_json, write_text
from raytune_ft.reporting.read import (
    open_run,
    read_data_facts,
    read_evaluation,
    read_leaderboard,
    read_trials,
    read_winner,
)

MakeRun = Callable[..., RunDirectory]


def test_a_run_is_read_back_as_it_was_written(make_run: MakeRun) -> None:
    run = make_run()
    board, winner, trials = read_leaderboard(run), read_winner(run), read_trials(run)
    assert [row.rank for row in board.rows][:2] == [1, 2]
    assert board.rows[-1].rank is None and board.rows[-1].value is None
    assert winner.trial == board.rows[0].trial and winner.value == board.rows[0].value
    assert len(trials) == len(board.rows)
    assert read_evaluation(run).difference["accuracy"].low == 0.05
    assert read_data_facts(run).splits["train"].rows == 9000


def test_a_directory_that_is_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_run(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: not a run directory (no experiment.yaml); give the directory that sweep printed"
    )


def test_a_missing_evaluation_says_which_command_makes_it(make_run: MakeRun) -> None:
    run = make_run()
    run.evaluation.unlink()
    with pytest.raises(InputError, match=r"evaluation\.json: no such file; run `raytune-ft evaluate"):
        read_evaluation(run)


def test_the_half_written_last_line_of_a_running_trial_is_left_out(make_run: MakeRun) -> None:
    run = make_run()
    directory = run.trial("0000")
    directory.outcome.unlink()
    whole = directory.metrics.read_text()
    write_text(directory.metrics, whole + '{"step": 99, "eval_l')
    trial = read_trials(run)[0]
    assert trial.outcome == "running"
    assert [point.step for point in trial.points] == [5, 15, 30]


def test_a_damaged_line_in_the_middle_is_named(make_run: MakeRun) -> None:
    run = make_run()
    metrics = run.trial("0000").metrics
    lines = metrics.read_text().splitlines()
    write_text(metrics, "\n".join([lines[0], "{broken", lines[1]]) + "\n")
    with pytest.raises(IntegrityError, match=r"metrics\.jsonl:2: not JSON"):
        read_trials(run)


def test_a_leaderboard_with_a_missing_key_is_not_taken(make_run: MakeRun) -> None:
    run = make_run()
    write_json(run.leaderboard, {"experiment": "x", "metric": "eval_loss", "mode": "min"})
    with pytest.raises(IntegrityError, match=r"leaderboard\.json: rows: "):
        read_leaderboard(run)


def test_a_trial_directory_without_configuration_is_not_a_trial(make_run: MakeRun) -> None:
    run = make_run(trials=4)
    (run.trials / ".hidden").mkdir()
    assert len(read_trials(run)) == 4
