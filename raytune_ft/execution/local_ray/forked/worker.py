"""Turns a fork of the fork server into the worker that a new process would have been."""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import runpy
import signal
import sys
from typing import Any


def become_worker(request: dict[str, Any], files: list[int]) -> None:
    """Runs Ray's worker in this process, to its end.

    Args:
        request: The worker as `setup_worker.worker_of` describes it, which ran in the process that Ray had started.
        files: File descriptors of the standard input, output and error.
    """
    _place_as(request, files)
    os.environ |= request["environment"]  # other variables that differ were set by imports
    _own_chance()
    torch = sys.modules.get("torch")
    if torch is not None and (threads := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        torch.set_num_threads(max(1, int(threads)))
    importlib.import_module("raytune_ft.execution.local_ray.token").read_token_anew()
    sys.argv = request["command"]
    sys.path.insert(0, os.path.dirname(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")


def _place_as(request: dict[str, Any], files: list[int]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ignored = request["ignores_interrupt"]
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    os.chdir(request["directory"])
    if request["own_group"]:
        os.setpgid(0, 0)
    with contextlib.suppress(OSError):  # where it may not be lowered, the server's priority stays
        os.setpriority(os.PRIO_PROCESS, 0, request["nice"])
    with contextlib.suppress(OSError, ValueError):  # raylet's limit; the server was started before Ray raised it
        resource.setrlimit(resource.RLIMIT_NOFILE, tuple(request["open_files"]))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(request["oom_score_adj"])


def _own_chance() -> None:
    """Seeds numpy anew in this fork; Python's `random` does that itself."""
    if "numpy" in sys.modules:
        numpy: Any = importlib.import_module("numpy")
        numpy.random.seed()
