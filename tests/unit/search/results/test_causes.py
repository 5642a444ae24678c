"""Why nothing won (fault 12)."""

from __future__ import annotations

import io
import pickle

import pytest
from rich.console import Console

from raytune_ft.paths import RunDirectory
from raytune_ft.reporting.causes import causes_table
from raytune_ft.search.results.causes import NothingWon, causes_of
from raytune_ft.search.results.leaderboard import build_leaderboard, choose_winner


def test_fault_12_every_trial_fails_and_the_causes_are_counted_whatever_their_numbers(
    make_experiment, run: RunDirectory, ended
) -> None:
    experiment = make_experiment()
    ended("0000", "out_of_memory", {}, reason="can't allocate 99 bytes; lower train.per_device_train_batch_size")
    for number, step in enumerate((3, 12, 7), 1):
        ended(f"{number:04d}", "diverged", {}, reason=f"training loss is nan at step {step}; lower it")
    run.winner.parent.mkdir(exist_ok=True, parents=True)
    board = build_leaderboard(experiment, run)
    with pytest.raises(NothingWon) as caught:
        choose_winner(experiment, run, board, "f" * 64)
    error = caught.value
    assert error.exit_code == 1
    assert "none of 4 trials ended with an adapter, for 2 causes (trial 0001 diverged: training loss is nan" in str(
        error
    )
    assert [(cause.outcome, len(cause.trials)) for cause in error.causes] == [("diverged", 3), ("out_of_memory", 1)]
    assert not run.winner.exists()
    console = Console(file=io.StringIO(), width=120)
    console.print(causes_table(error.causes))
    shown = console.file.getvalue()
    assert "3" in shown and "0001" in shown and "training loss is nan at step 3" in shown and "out of memory" in shown
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_reasons_that_differ_in_words_are_different_causes(make_experiment, run: RunDirectory, ended) -> None:
    ended("0000", "failed", {}, reason="method.r: 9 is odd")
    ended("0001", "failed", {}, reason="method.alpha: 9 is odd")
    assert len(causes_of(build_leaderboard(make_experiment(), run))) == 2


def test_a_study_without_a_trial_has_no_cause(run: RunDirectory) -> None:
    assert "none of 0 trials ended with an adapter" in str(NothingWon(run.root, ()))
