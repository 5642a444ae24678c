"""The order of trials, and the winner among them (fault 12)."""

from __future__ import annotations

import json

import pytest

from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.paths import write_json
from raytune_ft.search.results.leaderboard import build_leaderboard, choose_winner
from raytune_ft.training.metrics_log import append_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind


def test_trials_are_ranked_by_the_best_of_their_curve(make_experiment, run, ended) -> None:
    ended("0000", "completed", {5: 0.9, 15: 0.5, 45: 0.6}, seconds=80.0)
    ended("0001", "pruned", {5: 0.7})
    ended("0002", "completed", {5: 0.8, 15: 0.4, 45: 0.3}, seconds=81.0)
    board = build_leaderboard(make_experiment(), run)
    assert [(row.rank, row.trial, row.value, row.step) for row in board] == [
        (1, "0002", 0.3, 45),
        (2, "0000", 0.5, 15),
        (3, "0001", 0.7, 5),
    ]
    assert board[0].checkpoint == "trials/0002/checkpoints/step-000045"
    assert board[1].checkpoint == "trials/0000/checkpoints/step-000015"
    assert (board[0].seconds, board[2].seconds) == (81.0, 5.0)
    assert board[0].parameters == {"method.r": 2}


def test_trials_that_did_not_end_well_come_last_without_a_rank(make_experiment, run, ended) -> None:
    ended("0000", "diverged", {5: 0.1}, reason="training loss is nan at step 7")
    ended("0001", "completed", {45: 0.9})
    ended("0002", "out_of_memory", {})
    ended("0003", "failed", {5: 0.2})
    board = build_leaderboard(make_experiment(), run)
    assert [(row.rank, row.trial, row.value, row.checkpoint is None) for row in board] == [
        (1, "0001", 0.9, False),
        (None, "0000", None, True),
        (None, "0002", None, True),
        (None, "0003", None, True),
    ]
    assert board[1].reason == "training loss is nan at step 7"


def test_a_trial_that_goes_on_is_not_on_the_board(make_experiment, run, ended) -> None:
    ended("0000", "completed", {45: 0.9})
    run.trial("0001").root.mkdir()
    append_metrics(run.trial("0001").metrics, {"step": 5, "eval_loss": 0.1, "checkpoint": "step-000005"})
    (run.trials / "notes.txt").write_text("not a trial")
    assert [row.trial for row in build_leaderboard(make_experiment(), run)] == ["0000"]


def test_only_whole_finite_reports_with_a_checkpoint_count(make_experiment, run, ended) -> None:
    ended("0000", "completed", {5: 0.9, 15: float("nan"), 25: float("inf")})
    append_metrics(run.trial("0000").metrics, {"step": 30, "eval_loss": 0.1, "seconds": 30, "checkpoint": None})
    with run.trial("0000").metrics.open("a") as stream:
        stream.write('{"step": 45, "eval_loss": 0.0')
    (row,) = build_leaderboard(make_experiment(), run)
    assert (row.rank, row.value, row.step) == (1, 0.9, 5)


def test_a_perfect_loss_of_zero_is_a_value(make_experiment, run, ended) -> None:
    ended("0000", "completed", {45: 0.0})
    ended("0001", "completed", {45: 0.1})
    assert [(row.rank, row.trial, row.value) for row in build_leaderboard(make_experiment(), run)] == [
        (1, "0000", 0.0),
        (2, "0001", 0.1),
    ]


def test_ties_keep_the_order_of_trials(make_experiment, run, ended) -> None:
    for name in ("0002", "0000", "0001"):
        ended(name, "completed", {45: 0.5})
    assert [row.trial for row in build_leaderboard(make_experiment(), run)] == ["0000", "0001", "0002"]


def test_what_is_written_is_what_is_returned(make_experiment, run, ended) -> None:
    ended("0000", "completed", {45: 0.5})
    ended("0001", "failed", {})
    board = build_leaderboard(make_experiment(), run)
    written = json.loads(run.leaderboard.read_text())
    assert {key: written[key] for key in ("schema", "experiment", "metric", "mode")} == {
        "schema": 1,
        "experiment": "toy",
        "metric": "eval_loss",
        "mode": "min",
    }
    assert [(row["rank"], row["trial"], row["outcome"]) for row in written["rows"]] == [
        (row.rank, row.trial, row.outcome) for row in board
    ]


def test_the_first_of_the_board_wins_and_says_from_what_it_came(make_experiment, run, ended) -> None:
    ended("0000", "completed", {45: 0.5})
    ended("0001", "pruned", {5: 0.4})
    experiment = make_experiment()
    winner = choose_winner(experiment, run, build_leaderboard(experiment, run), "f1n9er")
    assert winner.trial == "0001"
    assert json.loads(run.winner.read_text()) == {
        "schema": 1,
        "experiment": "toy",
        "trial": "0001",
        "parameters": {"method.r": 1},
        "metric": "eval_loss",
        "value": 0.4,
        "values": {"eval_loss": 0.4},
        "rule": "the least eval_loss",
        "step": 5,
        "adapter": "trials/0001/checkpoints/step-000005",
        "base_model": "base",
        "dtype": "float32",
        "base_sha256": None,
        "data_fingerprint": "f1n9er",
    }


def test_when_every_trial_failed_the_causes_are_told_and_the_old_winner_stays(make_experiment, run, ended) -> None:
    """Fault 12."""
    write_json(run.winner, "the old one")
    ended("0000", "diverged", {5: 0.5}, reason="training loss is nan at step 7")
    ended("0001", "out_of_memory", {}, reason="CUDA out of memory")
    experiment = make_experiment()
    with pytest.raises(RaytuneError) as caught:
        choose_winner(experiment, run, build_leaderboard(experiment, run), "f")
    line = str(caught.value)
    assert caught.value.exit_code == 1 and "\n" not in line
    assert "none of 2 trials ended with an adapter" in line
    assert "for 2 causes (trial 0000 diverged: training loss is nan at step 7)" in line
    assert json.loads(run.winner.read_text()) == "the old one"


def test_a_trial_that_never_wrote_its_configuration_is_still_shown(make_experiment, run) -> None:
    Outcome(OutcomeKind.failed, "no such key").write(run.trial("0000"))
    (row,) = build_leaderboard(make_experiment(), run)
    assert (row.rank, row.parameters, row.reason) == (None, {}, "no such key")


def test_a_damaged_outcome_is_named_not_guessed(make_experiment, run, ended) -> None:
    ended("0000", "completed", {45: 0.5})
    run.trial("0000").outcome.write_text('{"outc')
    with pytest.raises(IntegrityError, match=r"0000/outcome\.json: not whole JSON"):
        build_leaderboard(make_experiment(), run)


def test_the_first_place_is_for_weights_that_are_there(make_experiment, run, ended) -> None:
    """Also where files of the best trial were taken away: a study that has others' is not at its end."""
    for name, loss in (("0000", 0.3), ("0001", 0.5), ("0002", 0.4)):
        ended(name, "completed", {5: loss})
    (run.trial("0000").checkpoints / "step-000005").rmdir()
    experiment = make_experiment()
    board = build_leaderboard(experiment, run)
    assert [(row.rank, row.trial) for row in board] == [(1, "0002"), (2, "0000"), (3, "0001")]
    assert choose_winner(experiment, run, board, "f").trial == "0002"
    for name in ("0001", "0002"):
        (run.trial(name).checkpoints / "step-000005").rmdir()
    with pytest.raises(RaytuneError, match="the weights of all trials are gone"):
        choose_winner(experiment, run, build_leaderboard(experiment, run), "f")


def test_a_report_that_does_not_say_how_long_it_took_is_a_report(make_experiment, run, ended) -> None:
    ended("0000", "completed", {})
    append_metrics(run.trial("0000").metrics, {"step": 5, "eval_loss": 0.5, "checkpoint": "step-000005"})
    (row,) = build_leaderboard(make_experiment(), run)
    assert (row.rank, row.value, row.seconds) == (1, 0.5, 0.0)
