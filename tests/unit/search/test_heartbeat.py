"""While trials run, whoever watches hears of them every few seconds, and knows whether their driver lives."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from raytune_ft.config.search.goals import Metric
from raytune_ft.events.kinds import Ended, Event, Progressed, Started
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.reporting.terminal.live import LiveTable
from raytune_ft.search.heartbeat import Heartbeat
from raytune_ft.search.study.driver import SILENT_S, Driver, only_driver, read_driver
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.progress import Phase, ProgressWriter, TrialProgress
from raytune_ft.training.steady_clock import steady_time


class Watcher:
    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.enough = threading.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progressed):
            self.heard.append((event.trial, event.state and event.state.step))
            if len(self.heard) >= 4:
                self.enough.set()


def test_an_error_of_a_listener_in_the_thread_ends_the_search_at_the_next_event(run: RunDirectory) -> None:
    told = threading.Event()

    def listener(event: Event) -> None:
        if isinstance(event, Progressed):
            told.set()
            raise RuntimeError("the page is gone")

    run.trial("0000").root.mkdir(parents=True)
    with pytest.raises(RuntimeError, match="the page is gone"), Heartbeat(listener, run, every_s=0.01) as beat:
        beat(Started("0000", {}))
        assert told.wait(20)
    told.clear()
    with pytest.raises(RuntimeError, match="the page is gone"), Heartbeat(listener, run, every_s=0.01) as beat:
        beat(Started("0000", {}))
        assert told.wait(20)
        while True:
            beat(Started("0001", {}))


def test_running_trials_are_told_of_every_few_seconds_and_ended_ones_are_not(run: RunDirectory) -> None:
    for name in ("0000", "0001", "0002"):
        run.trial(name).root.mkdir(parents=True)
        ProgressWriter(run.trial(name).progress, [10]).begins(7)  # left by an earlier driver
    watcher, lines = Watcher(), list[str]()
    notices = iter([["node b gets no lane"]])
    with Heartbeat(watcher, run, lambda: next(notices, []), lines.append, every_s=0.01) as beat:
        for name in ("0000", "0001"):
            beat(Started(name, {}))
        beat(Started("0002", {}))
        beat(Ended("0002", Outcome(OutcomeKind.failed, "")))
        ProgressWriter(run.trial("0001").progress, [10]).begins(3)
        watcher.heard.clear()
        watcher.enough.clear()
        assert watcher.enough.wait(20)
    heard = set(watcher.heard)
    assert ("0000", None) in heard and ("0001", 3) in heard and {name for name, _ in heard} == {"0000", "0001"}
    assert lines == ["node b gets no lane"]


@pytest.mark.parametrize("heard_from_s", [1004.0, 1020.0])
def test_lines_come_within_ten_seconds_of_a_start_and_then_every_fifteen(heard_from_s: float) -> None:
    now = [1000.0]
    stream, printed = io.StringIO(), list[float]()
    with LiveTable(8, Metric(name="eval_loss"), Console(file=stream, width=200), clock=lambda: now[0]) as table:
        table.started("0000", {"method.r": 8})
        for _ in range(60):
            now[0] += 2.0
            before = stream.tell()
            state = (
                None if now[0] < 1020 else TrialProgress(Phase.training, 3, 5, 45, 3, 1.5, 100.0, time=steady_time())
            )
            table.progressed("0000", state)
            if stream.tell() > before:
                printed.append(now[0] - 1000.0)
    assert printed[0] <= 10 and all(after - before <= 15 for before, after in pairwise(printed))
    lines = stream.getvalue().splitlines()
    if heard_from_s > 1010:
        assert lines[1] == "trial 0000: waits for its workers, 8 s after its start"
    assert lines[-1].startswith("trial 0000: step 3 of 45, 1.5 s a step, 100 tokens/s, reports at step 5 in about 3 s")
    assert len(lines) == 1 + len(printed) < 12


def test_of_many_trials_some_are_told_of_and_the_others_counted() -> None:
    now = [0.0]
    stream = io.StringIO()
    with LiveTable(8, Metric(name="eval_loss"), Console(file=stream, width=200), clock=lambda: now[0]) as table:
        for name in range(7):
            table.started(f"000{name}", {})
        now[0] = 8.0
        for name in range(7):
            table.progressed(f"000{name}", None)
    told = [line for line in stream.getvalue().splitlines() if "waits for its workers" in line]
    assert len(told) == 4 and told[-1].endswith("(and 3 more trials run)")


def test_a_driver_that_works_is_known_and_one_that_ended_says_so(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    assert read_driver(run) is None
    with only_driver(run):
        driver = read_driver(run)
        assert driver and (driver.pid, driver.host, driver.dead()) == (os.getpid(), socket.gethostname(), False)
    driver = read_driver(run)
    assert driver and driver.ended and not driver.dead()


def test_a_killed_driver_is_dead_at_once_also_where_its_number_was_given_away(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom raytune_ft.paths import RunDirectory\n"
        "from raytune_ft.search.study.driver import only_driver\n"
        "with only_driver(RunDirectory(Path(sys.argv[1]))):\n    print('on', flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(run.root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "on\n"
    driver = read_driver(run)
    assert driver and not driver.dead()
    process.kill()
    process.wait()
    assert driver.dead()
    reused = replace(driver, pid=os.getpid(), born=psutil.Process().create_time() - 100.0)
    assert reused.dead()
    in_a_container = replace(driver, pids=driver.pids + 1, seen=time.time())  # whose numbers are others
    assert not in_a_container.dead() and in_a_container.dead(time.time() + 2 * SILENT_S)


def test_a_driver_elsewhere_is_dead_when_it_was_silent_for_long(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    write_json(run.driver, asdict(Driver("another-host", 1, 0.0, seen=1000.0)))
    driver = read_driver(run)
    assert driver and not driver.dead(1000.0 + SILENT_S) and driver.dead(1001.0 + SILENT_S)
    run.driver.write_text('{"host": ')
    assert read_driver(run) is None
