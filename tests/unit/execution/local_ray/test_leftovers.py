"""Workers of a private Ray that hang at their exit."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from raytune_ft.execution.local_ray import leftovers
from raytune_ft.execution.local_ray.leftovers import workers_end


def test_a_worker_that_outlives_its_raylet_is_killed_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    start = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {stubborn!r}]); time.sleep(60)"
    raylet = subprocess.Popen([sys.executable, "-c", start])
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        handle = psutil.Process(raylet.pid)
        while not handle.children():
            pass
        worker = handle.children()[0]
        monkeypatch.setattr(leftovers, "_raylets", lambda: [handle])
        with workers_end():
            raylet.terminate()
        worker.wait(5)
        assert not worker.is_running()
        assert other.poll() is None
    finally:
        for process in (raylet, other):
            process.kill()
            process.wait()
