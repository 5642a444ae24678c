"""Processes of one node share its cores out among themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from raytune_ft.execution.cores import claim_cores, pin_to

CLAIM = "import sys; from pathlib import Path; from raytune_ft.execution.cores import claim_cores; "
MINE = tuple(sorted(os.sched_getaffinity(0)))


def claim_elsewhere(directory: Path, count: int) -> subprocess.Popen[str]:
    """Another process that claims, prints what it got, and stays until its input is closed."""
    code = CLAIM + f"print(claim_cores({count}, Path({str(directory)!r})), flush=True); sys.stdin.read()"
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.skipif(len(MINE) < 2, reason="needs two cores")
def test_a_core_is_taken_by_one_process_and_free_again_when_that_is_killed(tmp_path: Path) -> None:
    other = claim_elsewhere(tmp_path, len(MINE) - 1)
    assert first_line(other) == str(MINE[:-1])
    assert claim_cores(2, tmp_path) == ()  # one is free, and is given back
    other.kill()
    other.communicate()
    assert claim_cores(2, tmp_path) == MINE[:2]


def test_more_than_there_are_is_nothing(tmp_path: Path) -> None:
    assert claim_cores(len(MINE) + 1, tmp_path) == ()
    assert claim_cores(len(MINE), tmp_path) == MINE


def test_a_directory_that_others_may_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    directory = tmp_path / f"raytune-ft-cores-{os.getuid()}"
    directory.mkdir(mode=0o700)
    directory.chmod(0o777)
    assert claim_cores(1) == ()
    directory.chmod(0o700)
    assert claim_cores(1) == MINE[:1]
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_thread_and_those_that_it_starts_stay_where_they_are_put() -> None:
    seen: list[set[int]] = []

    def look() -> None:
        pin_to(MINE[:1])
        inner = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        inner.start()
        inner.join()
        pin_to(())
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [{MINE[0]}, {MINE[0]}]
    assert tuple(sorted(os.sched_getaffinity(0))) == MINE
