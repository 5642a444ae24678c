"""A step in a process of its own: its result, its words, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.promotion import child
from raytune_ft.promotion.child import run_child

WORK = """
import os, subprocess, sys, time
from raytune_ft.errors import InputError
from raytune_ft.promotion.child import child_main, tell

def work(spec):
    print("noise")
    if spec["do"] == "add":
        tell("adding")
        return {"sum": spec["a"] + spec["b"]}
    if spec["do"] == "hang":
        grandchild = subprocess.Popen(["sleep", "600"])
        open(spec["pids"], "w").write(f"{os.getpid()} {grandchild.pid}")
        time.sleep(600)
    if spec["do"] == "refuse":
        raise InputError("evaluate.labels", "are wrong", "mend them")
    if spec["do"] == "die":
        os.abort()
    raise ValueError("no memory\\nfor that")

child_main(work)
"""


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, object]]:
    """The real `run_child` on a module that a test wrote."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "child_of_a_test.py").write_text(WORK)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "modules"), os.getcwd()]))

    def run(said: list[str] | None = None, timeout_s: float = 120.0, **spec: object) -> dict[str, object]:
        return run_child(
            "child_of_a_test", spec, timeout_s, [].append if said is None else said.append, "a test", "wait longer"
        )

    return run


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_a_child_hands_back_its_result_and_says_only_what_it_tells(real) -> None:
    said: list[str] = []
    assert real(said, do="add", a=1, b=2) == {"sum": 3}
    assert said == ["adding"]


def test_a_child_that_fails_is_one_line_and_its_log_is_shown(real) -> None:
    said: list[str] = []
    with pytest.raises(RaytuneError) as caught:
        real(said, do="fail")
    assert str(caught.value) == "a test: ValueError: no memory for that"
    assert "  a test: noise" in said and any("Traceback" in line for line in said)


def test_a_wrong_input_stays_one(real) -> None:
    with pytest.raises(InputError, match=r"evaluate\.labels: are wrong; mend them"):
        real(do="refuse")


def test_a_child_that_dies_is_told(real) -> None:
    with pytest.raises(RaytuneError, match=f"a test: ended with code -{int(signal.SIGABRT)}"):
        real(do="die")


def test_a_child_that_takes_too_long_says_that_it_works_and_is_ended_with_all_that_it_started(
    real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_SILENT_S", 4.0)
    said: list[str] = []
    with pytest.raises(RaytuneError, match="took longer than 10 s; wait longer"):
        real(said, timeout_s=10.0, do="hang", pids=str(tmp_path / "pids"))
    assert [line for line in said if "at work" in line] == ["a test: at work for 4 s", "a test: at work for 8 s"]
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2 and wait_until(lambda: all(map(gone, pids)))


def test_a_child_ends_with_its_parent(real, tmp_path: Path) -> None:
    code = (
        "from raytune_ft.promotion.child import run_child;"
        f"run_child('child_of_a_test', {{'do': 'hang', 'pids': {str(tmp_path / 'pids')!r}}}, 600, print, 'a test')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    assert wait_until(lambda: (tmp_path / "pids").is_file() and len((tmp_path / "pids").read_text().split()) == 2)
    parent.kill()
    parent.wait()
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert wait_until(lambda: all(map(gone, pids)))
