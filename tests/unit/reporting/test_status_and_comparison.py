from __future__ import annotations

import io
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict

import pytest
from rich.console import Console

from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.reporting.comparison import compare_runs
from raytune_ft.reporting.terminal.comparison_view import comparison_view
from raytune_ft.reporting.terminal.status import run_status, status_view
from raytune_ft.search.study.driver import Driver
from raytune_ft.training.progress import ProgressWriter

MakeRun = Callable[..., RunDirectory]


def text_of(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_sweep_that_was_stopped_is_not_finished(make_run: MakeRun) -> None:
    run = make_run()
    assert run_status(run).finished
    board = json.loads(run.leaderboard.read_text())
    run.leaderboard.write_text(json.dumps({**board, "rows": board["rows"][:3]}))
    assert not run_status(run).finished


def test_a_running_trial_is_shown_with_its_last_step_and_its_silence(make_run: MakeRun) -> None:
    run = make_run()
    run.leaderboard.unlink()
    run.trial("0002").outcome.unlink()
    for path in run.trial("0002").root.iterdir():
        os.utime(path, (1_000_000, 1_000_000))
    status = run_status(run, now=1_000_090)
    assert not status.finished and status.planned == 16
    assert status.outcomes["running"] == 1 and status.outcomes["diverged"] == 1 and status.outcomes["failed"] == 1
    (running,) = status.running
    assert (running.trial, running.step, running.silent_s) == ("0002", 5, 90)
    assert "15 of 16 trials ended" in text_of(status_view(status)) and "1 min 30 s ago" in text_of(status_view(status))


@pytest.mark.parametrize("ended", [False, True])
def test_a_run_whose_driver_is_gone_is_stopped_and_says_what_to_type(make_run: MakeRun, ended: bool) -> None:
    run = make_run()
    run.leaderboard.unlink()
    run.trial("0002").outcome.unlink()
    driver = Driver(socket.gethostname(), 2**22 + 1, 0.0, seen=time.time() - 300, ended=ended)  # no such process
    write_json(run.driver, asdict(driver))
    status = run_status(run)
    assert (status.dead_s is None) is ended and status.stopped is ended
    text = text_of(status_view(status))
    assert "stopped, 15 of 16 trials ended" in text and "interrupted: 0002 at step 5" in text
    assert f"to go on: raytune-ft sweep --resume {run.experiment}" in " ".join(text.split())
    assert ("its driver is dead, since about 5 min" in text) is not ended


def test_a_running_trial_is_shown_between_two_reports(make_run: MakeRun) -> None:
    run = make_run()
    run.leaderboard.unlink()
    run.trial("0002").outcome.unlink()
    ProgressWriter(run.trial("0002").progress, [15, 30]).begins(7)
    assert "trial 0002: step 7 of 30, takes its next step" in text_of(status_view(run_status(run)))


def test_the_best_so_far_is_the_lowest_loss_reported(make_run: MakeRun) -> None:
    run = make_run()
    best = run_status(run).best
    assert best is not None and f'"trial": "{best.trial}"' in run.winner.read_text()


def test_a_run_before_its_first_trial_has_a_status(make_run: MakeRun) -> None:
    run = make_run()
    run.trials.rename(run.root / "gone")
    status = run_status(run)
    assert status.outcomes == {} and status.best is None and status.elapsed_s == 0


@pytest.mark.parametrize(("fingerprint", "same"), [("4be1" * 16, True), ("0000" * 16, False)])
def test_runs_on_other_data_are_said_not_to_be_comparable(make_run: MakeRun, fingerprint: str, same: bool) -> None:
    comparison = compare_runs(make_run("one"), make_run("two", trials=8, fingerprint=fingerprint))
    text = text_of(comparison_view(comparison))
    assert comparison.same_data is same
    assert ("can't be compared" in text) is not same
    assert comparison.first.test["accuracy"] == 0.875
    assert sum(comparison.second.outcomes.values()) == 8


def test_runs_without_a_data_manifest_are_not_called_the_same(make_run: MakeRun) -> None:
    one, two = make_run("one", trials=4), make_run("two", trials=4)
    for run in (one, two):
        (run.data / "manifest.json").unlink()
    assert not compare_runs(one, two).same_data
    assert "unknown" in compare_runs(one, two).warnings[0]
