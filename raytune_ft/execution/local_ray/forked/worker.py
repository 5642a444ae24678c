"""What a copy of the fork server does to be the worker that a new process would have been."""

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
    """Runs Ray's worker to its end.

    Args:
        request: From `setup_worker.worker_of`, which ran where Ray had started it.
        files: Standard input, output and error.
    """
    _place_as(request, files)
    os.environ |= request["environment"]  # what differs otherwise was set by modules when they were imported
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
    with contextlib.suppress(OSError):  # as the server where it may not be lowered
        os.setpriority(os.PRIO_PROCESS, 0, request["nice"])
    with contextlib.suppress(OSError, ValueError):  # raylet's; the server was started before Ray raised its own
        resource.setrlimit(resource.RLIMIT_NOFILE, tuple(request["open_files"]))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(request["oom_score_adj"])


def _own_chance() -> None:
    """Python's `random` sees to it itself."""
    if "numpy" in sys.modules:
        numpy: Any = importlib.import_module("numpy")
        numpy.random.seed()
