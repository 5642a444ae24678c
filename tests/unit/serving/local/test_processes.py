from __future__ import annotations

import subprocess
import sys

import psutil

from raytune_ft.execution.local_ray.alive import alive
from raytune_ft.serving.local.processes import children, end

IGNORES_TERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
)


def start(code: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    return child


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    child = start(IGNORES_TERM)
    process = psutil.Process(child.pid)
    assert process in children()
    assert end({process}, grace_s=0.2) == 1
    assert not alive(process)
    child.wait(5)


def test_a_process_that_has_ended_but_is_not_collected_needs_no_ending() -> None:
    child = start("print(1, flush=True)")
    process = psutil.Process(child.pid)
    assert end({process}, grace_s=5.0) == 0
    child.wait(5)
